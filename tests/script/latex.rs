//! The LaTeX of every kind of table: its text, and its compilation if a TeX engine is installed.

use std::path::Path;
use std::process::Command;

use crate::support::session;

/// Characters special to LaTeX, numbers of every form, and blanks.
const TABLES: &str = r#"
    let empty = table(["only_column"]);
    empty.save(join_path(folder, "empty.tex"));
    let plain = table(["layer", "effect"], #{ title: "100% of x_i & y^2", formats: #{ effect: "+.3" } });
    for layer in 0..3 { plain.row(#{ layer: layer, effect: 0.1 * layer - 0.1 }); }
    plain.row(#{ layer: 3, effect: 0.0 / 0.0 });
    plain.save(join_path(folder, "plain.tex"));
    let odd = table(["text", "p"], #{ headers: #{ text: "f(i,j) >= f(i)+f(j)", p: "p < 5%" }, formats: #{ p: ".2e" } });
    for text in ["a_b", "50% & more", "$x^2$ #1 {y} ~z", "back\\slash", "[0.1, 0.2]", "* starred", "a|b \"c\"", "é ü ß"] {
        odd.row(#{ text: text, p: 0.000123 });
    }
    odd.row(#{ text: (), p: 1.0 / 0.0 });
    odd.row(#{ text: "below the smallest float", p: report::p_cell(#{ p: 0.0, log10_p: -412.3 }) });
    odd.save(join_path(folder, "odd.tex"));
"#;

#[test]
fn tables_are_latex_that_compiles() {
    let folder = tempfile::tempdir().expect("folder");
    let code = format!("let folder = \"{}\";\n{TABLES}", folder.path().display());
    if let Err(error) = session().eval("tables", &code) {
        panic!("{error:?}");
    }
    let names = ["empty", "plain", "odd"];
    for name in names {
        let text = std::fs::read_to_string(folder.path().join(format!("{name}.tex"))).expect(name);
        assert!(text.contains("\n\\begin{tabular}{") && !text.contains("\\\\begin"), "{text}");
        assert!(text.ends_with("\\bottomrule\n\\end{tabular}\n"), "{text}");
    }
    compile(folder.path(), &names);
}

/// Compiles a document of all tables with the first engine on the path; does nothing without one.
pub fn compile(folder: &Path, names: &[&str]) {
    let inputs: String = names.iter().map(|name| format!("\\input{{{name}.tex}}\n\n")).collect();
    let document = format!(
        "\\documentclass{{article}}\n\\usepackage{{booktabs}}\n\\begin{{document}}\n{inputs}\\end{{document}}\n"
    );
    std::fs::write(folder.join("document.tex"), document).expect("written");
    for engine in ["pdflatex", "lualatex", "xelatex", "tectonic"] {
        let mut command = Command::new(engine);
        if engine != "tectonic" {
            command.args(["-interaction=nonstopmode", "-halt-on-error"]);
        }
        match command.current_dir(folder).arg("document.tex").output() {
            Err(_) => continue,
            Ok(output) => {
                assert!(output.status.success(), "{engine}: {}", String::from_utf8_lossy(&output.stdout));
                assert!(folder.join("document.pdf").exists(), "{engine} wrote no document");
                return;
            }
        }
    }
    eprintln!("no TeX engine on the path: the text alone was checked");
}
