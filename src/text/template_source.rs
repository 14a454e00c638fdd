//! The text of a chat template as minijinja takes it: transformers' own tags, and loops over what Jinja2 refuses.

/// The filter that lets through what can be iterated.
pub const ITERABLE: &str = "lancet_iterable";

/// The template with `if true` in the place of transformers' `generation` block, which marks the assistant's text and
/// changes nothing, and with [`ITERABLE`] on what its loops run over. Lines stay where they are.
pub fn adapted(template: &str) -> String {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    let mut raw = false;
    while let Some((before, after)) = rest.split_once("{%") {
        let Some((tag, after)) = after.split_once("%}") else { break };
        let name = tag.trim_matches(|character: char| character.is_whitespace() || matches!(character, '-' | '+'));
        raw = name == "raw" || (raw && name != "endraw");
        let tag = match name {
            _ if raw => tag.to_owned(),
            "generation" => tag.replace(name, "if true"),
            "endgeneration" => tag.replace(name, "endif"),
            _ if name.starts_with("for ") => checked_loop(tag).unwrap_or_else(|| tag.to_owned()),
            _ => tag.to_owned(),
        };
        text.extend([before, "{%", &tag, "%}"]);
        rest = after;
    }
    text + rest
}

/// A `for` tag with the filter, if the tag is whole.
fn checked_loop(tag: &str) -> Option<String> {
    let start = word(tag, 0, &["in"])?;
    let end = word(tag, start + 2, &["if", "recursive"]);
    let end = end.unwrap_or_else(|| tag.trim_end_matches(|character: char| "-+".contains(character)).len());
    let (head, items, tail) = (tag.get(..start + 2)?, tag.get(start + 2..end)?, tag.get(end..)?);
    Some(format!("{head} ({})|{ITERABLE} {tail}", items.trim()))
}

/// The place of the first of these words behind `from`, outside quotes and brackets.
fn word(tag: &str, from: usize, words: &[&str]) -> Option<usize> {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    let (mut depth, mut quote, mut escaped, mut last) = (0, None, false, ' ');
    for (place, character) in tag.char_indices().skip_while(|(place, _)| *place < from) {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if character == '\\' => escaped = true,
            Some(open) if character == open => quote = None,
            Some(_) => {}
            None if matches!(character, '"' | '\'') => quote = Some(character),
            None if matches!(character, '(' | '[' | '{') => depth += 1,
            None if matches!(character, ')' | ']' | '}') => depth -= 1,
            None if depth == 0 && !is_part(last) => {
                let rest = &tag[place..];
                let is_word = |word: &&str| rest.strip_prefix(*word).is_some_and(|rest| !rest.starts_with(is_part));
                if words.iter().any(is_word) {
                    return Some(place);
                }
            }
            None => {}
        }
        last = character;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loops_are_found_whatever_they_run_over() {
        for (tag, expected) in [
            ("{% for x in y %}", "{% for x in (y)|lancet_iterable %}"),
            ("{%- for k, v in y.items() -%}", "{%- for k, v in (y.items())|lancet_iterable -%}"),
            ("{% for x in y if x in z %}", "{% for x in (y)|lancet_iterable if x in z %}"),
            ("{% for x in [a if b else c] recursive %}", "{% for x in ([a if b else c])|lancet_iterable recursive %}"),
            ("{% for index in 'a if \\' b' %}", "{% for index in ('a if \\' b')|lancet_iterable %}"),
            ("{%\nfor x\nin y|sort if x %}", "{%\nfor x\nin (y|sort)|lancet_iterable if x %}"),
            ("{% raw %}{% for x in y %}{% endraw %}", "{% raw %}{% for x in y %}{% endraw %}"),
            ("{% generation %}{{ x in y }}{% endgeneration %}", "{% if true %}{{ x in y }}{% endif %}"),
        ] {
            assert_eq!(adapted(tag).replace("  ", " "), expected);
        }
    }
}
