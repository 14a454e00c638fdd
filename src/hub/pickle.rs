//! What to do with weights that exist only as a pickle, which can run code when it is read.

/// The rest of a hint, after the name of a pickle with a state dict.
pub fn hint(file: &str) -> String {
    format!(
        "a pickle, which can run code when read: convert it with `python -c \"import torch; from safetensors.torch import \
         save_file; save_file({{k: v.contiguous() for k, v in torch.load('{file}', weights_only=True).items()}}, \
         'model.safetensors')\"`, and load its folder with the `config.json`"
    )
}

/// The file with the final weights of a repository without safetensors, if it is a pickle of this kind.
pub(super) fn of(files: &[String]) -> Option<&String> {
    files.iter().find(|file| file.ends_with("final.pth"))
}
