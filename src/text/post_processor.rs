//! Checks what puts special tokens around a text: the library takes for granted that its parts fit together.

use serde_json::Value as Json;
use tokenizers::processors::PostProcessorWrapper;

/// A special token that a template of `processor` names without giving its ids, if there is one.
///
/// # Errors
/// A processor that cannot be written as JSON.
pub fn token_without_ids(processor: &PostProcessorWrapper) -> serde_json::Result<Option<String>> {
    Ok(without_ids(&serde_json::to_value(processor)?))
}

fn without_ids(processor: &Json) -> Option<String> {
    if let Some(parts) = processor["processors"].as_array() {
        return parts.iter().find_map(without_ids);
    }
    let pieces = [&processor["single"], &processor["pair"]].into_iter().filter_map(Json::as_array).flatten();
    let mut named = pieces.filter_map(|piece| piece["SpecialToken"]["id"].as_str());
    named.find(|token| processor["special_tokens"].get(token).is_none()).map(str::to_owned)
}
