//! The files of a model that is split over several, which llama.cpp names `NAME-00001-of-00003.gguf`.

/// More parts than any model has.
const MOST: usize = 10_000;

/// One file of a split model, by its name.
#[derive(Debug, PartialEq, Eq)]
struct Part<'a> {
    stem: &'a str,
    /// From 1
    number: usize,
    count: usize,
}

impl<'a> Part<'a> {
    fn of(file: &'a str) -> Option<Self> {
        let (rest, count) = file.strip_suffix(".gguf")?.rsplit_once("-of-")?;
        let (stem, number) = rest.rsplit_once('-')?;
        let digits = |text: &str| {
            (text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse::<usize>().ok())?
        };
        let (number, count) = (digits(number)?, digits(count)?);
        (1..=count.min(MOST)).contains(&number).then_some(Self { stem, number, count })
    }
}

/// The names of all files of the model that `file` belongs to, in their order: itself, or the parts.
pub fn files(file: &str) -> Vec<String> {
    match Part::of(file) {
        Some(Part { stem, count, .. }) if count <= MOST => {
            (1..=count).map(|number| format!("{stem}-{number:05}-of-{count:05}.gguf")).collect()
        }
        _ => vec![file.to_owned()],
    }
}

/// Whether a file is a part other than the first, which alone says how the model is built.
pub fn is_later(file: &str) -> bool {
    Part::of(file).is_some_and(|part| part.number > 1)
}

#[cfg(test)]
mod tests {
    use super::{files, is_later};

    #[test]
    fn parts_are_named_as_llama_cpp_does() {
        let parts = ["a-b-00001-of-00003.gguf", "a-b-00002-of-00003.gguf", "a-b-00003-of-00003.gguf"];
        for (number, part) in parts.iter().enumerate() {
            assert_eq!(files(part), parts);
            assert_eq!(is_later(part), number > 0);
        }
        for plain in
            ["a.gguf", "a-00004-of-00003.gguf", "a-1-of-3.gguf", "a-00000-of-00003.gguf", "00001-of-00003.gguf"]
        {
            assert_eq!(files(plain), [plain]);
            assert!(!is_later(plain));
        }
    }
}
