//! What users may call a hook: its full name, an alias, a kind in all layers, a pattern, a layer counted from the end.

use globset::{Glob, GlobMatcher};

use super::alias::{LAST_OUTPUT, LAYER, kinds, last_part, spellings};
use super::site::{HookPoint, SITES, Site, points};
use crate::error::{Error, Result, nearest};
use crate::model::config::Config;

/// A layer's number, where -1 means the last.
///
/// # Errors
/// There is no such layer.
pub fn layer(layer: i64, config: &Config) -> Result<i64> {
    let found = if layer < 0 { layer.saturating_add(config.n_layers) } else { layer };
    if (0..config.n_layers).contains(&found) {
        return Ok(found);
    }
    let last = config.n_layers - 1;
    Err(Error::new(format!("there is no layer {layer}"))
        .hint(format!("layers are 0 to {last}, or -1 to -{} from the end", config.n_layers)))
}

/// The point named `name`: a full name, a kind and its layer (`resid_post.3`), a Hugging Face module path
/// (`model.layers.3.self_attn.output`) or an nnterp accessor (`layers_output[3]`). A layer may be counted from the end.
///
/// # Errors
/// An unknown name, with the nearest one; a layer that the model does not have; a name of several points.
pub fn parse(name: &str, config: &Config) -> Result<HookPoint> {
    match matching(name, config)?.as_slice() {
        [point] => Ok(*point),
        several => Err(Error::new(format!("`{name}` names {} hooks", several.len()))
            .hint(format!("name one of them, such as `{}`", several[0].name()))),
    }
}

/// The points that a name or a pattern means, in order of execution. `*` and `?` stand for any characters, `{a,b}` for
/// either, `[0-3]` for a range of layers, and a kind without a layer (`resid_post`) for all layers.
///
/// # Errors
/// An unknown name, with the nearest one; a layer that the model does not have; a pattern that matches no point.
pub fn matching(name: &str, config: &Config) -> Result<Vec<HookPoint>> {
    if let Some(point) = full(name).filter(|point| point.exists(config)) {
        return Ok(vec![point]);
    }
    let in_name = |error: Error| error.context(format!("no hook is named `{name}`"));
    let plain = plain(name, config).map_err(in_name)?;
    if plain.contains(['*', '?', '{', '[']) {
        return of_pattern(name, &plain, config);
    }
    let own = full(&plain);
    let site = own.filter(|point| point.exists(config)).or_else(|| of_alias(&plain, config)).or(own);
    if let Some(point) = site {
        let place = if point.site.in_block() { layer(point.layer, config).map_err(in_name)? } else { 0 };
        let point = HookPoint { layer: place, ..point };
        return if point.exists(config) { Ok(vec![point]) } else { Err(absent(name, config)) };
    }
    let known = SITES.iter().map(|(site, _)| *site).find(|site| site.in_block() && kinds(*site).contains(&plain));
    let Some(site) = known else { return Err(unknown(name, &plain, config)) };
    let every: Vec<HookPoint> =
        (0..config.n_layers).map(|layer| HookPoint { site, layer }).filter(|point| point.exists(config)).collect();
    if every.is_empty() { Err(absent(name, config)) } else { Ok(every) }
}

fn absent(name: &str, config: &Config) -> Error {
    Error::new(format!("`{name}` does not exist in a {} model", config.model_type))
        .hint("`model.hook_names` lists its hooks")
}

/// Site and layer of a full name, whether or not a model has them.
fn full(name: &str) -> Option<HookPoint> {
    let (layer, site) = match name.strip_prefix("blocks.") {
        Some(rest) => rest.split_once('.').and_then(|(layer, site)| Some((layer.parse().ok()?, site)))?,
        None => (0, name),
    };
    let in_block = name.starts_with("blocks.");
    let found = SITES.iter().find(|(found, full)| found.in_block() == in_block && *full == site)?;
    Some(HookPoint { site: found.0, layer })
}

/// Site and layer of another name. The layer may be one that no model has.
fn of_alias(name: &str, config: &Config) -> Option<HookPoint> {
    if LAST_OUTPUT.contains(&name) {
        return Some(HookPoint { site: Site::ResidPost, layer: config.n_layers - 1 });
    }
    SITES.iter().find_map(|(site, _)| {
        spellings(*site, config).iter().find_map(|spelling| match spelling.split_once(LAYER) {
            None => (spelling == name).then_some(HookPoint { site: *site, layer: 0 }),
            Some((before, after)) => {
                let layer = name.strip_prefix(before)?.strip_suffix(after)?.parse().ok()?;
                Some(HookPoint { site: *site, layer })
            }
        })
    })
}

/// The points that a pattern matches: by their full names if it matches any, else by their other names.
fn of_pattern(name: &str, plain: &str, config: &Config) -> Result<Vec<HookPoint>> {
    let glob = |pattern: &str| -> Result<GlobMatcher> {
        let glob = Glob::new(pattern);
        Ok(glob.map_err(|error| Error::new(format!("`{name}` is not a pattern: {}", error.kind())))?.compile_matcher())
    };
    let (strict, loose) = (glob(&in_layer_places(plain, config))?, glob(plain)?);
    let all = points(config);
    let by_full = |glob: &GlobMatcher| all.iter().filter(|point| glob.is_match(point.name())).copied().collect();
    let by_alias = |glob: &GlobMatcher| {
        let names: Vec<(Site, Vec<String>)> = SITES.iter().map(|(site, _)| (*site, spellings(*site, config))).collect();
        let matches = |point: &&HookPoint| {
            let spellings = &names[point.site as usize].1;
            spellings.iter().any(|spelling| glob.is_match(spelling.replace(LAYER, &point.layer.to_string())))
        };
        all.iter().filter(matches).copied().collect()
    };
    let ways: [&dyn Fn() -> Vec<HookPoint>; 3] = [&|| by_full(&strict), &|| by_alias(&strict), &|| by_full(&loose)];
    ways.iter().map(|way| way()).find(|found| !found.is_empty()).ok_or_else(|| {
        Error::new(format!("no hook matches `{name}`"))
            .hint("`model.hook_names` lists them; for example `blocks.*.hook_resid_post`")
    })
}

/// The pattern with every `*` that is a whole part, but not the last, standing for a layer's number only: without this,
/// `blocks.*.hook_out` would reach into `blocks.0.attn.hook_out`.
fn in_layer_places(pattern: &str, config: &Config) -> String {
    let layers = alternatives(0..=config.n_layers - 1);
    let parts: Vec<&str> = pattern.split('.').collect();
    let last = parts.len() - 1;
    let part = |(place, part): (usize, &&str)| match *part {
        "*" if place > 0 && (place < last || parts.len() == 2) => layers.clone(),
        other => other.to_owned(),
    };
    parts.iter().enumerate().map(part).collect::<Vec<_>>().join(".")
}

fn alternatives(layers: std::ops::RangeInclusive<i64>) -> String {
    format!("{{{}}}", layers.map(|layer| layer.to_string()).collect::<Vec<_>>().join(","))
}

/// A name with accessors as parts (`layers_output[3]` becomes `layers_output.3`), layers counted from the start, and
/// ranges of layers written out.
fn plain(name: &str, config: &Config) -> Result<String> {
    let name = match name.strip_suffix(']').and_then(|rest| rest.split_once('[')) {
        Some((kind, index)) if !kind.is_empty() && !kind.ends_with('.') && !kind.contains(['*', '?']) => {
            let index =
                if index.trim_start_matches('-').contains('-') { format!("[{index}]") } else { index.to_owned() };
            format!("{kind}.{index}")
        }
        _ => name.to_owned(),
    };
    let parts = name.split('.').map(|part| match part.parse::<i64>() {
        Ok(number) if number < 0 => layer(number, config).map(|layer| layer.to_string()),
        _ if part.starts_with('[') && part.contains('-') => {
            let (first, last) = range(part).ok_or_else(|| {
                Error::new(format!("`{part}` is no range of layers")).hint("as in `blocks.[0-3].hook_resid_post`")
            })?;
            Ok(alternatives(layer(first, config)?..=layer(last, config)?))
        }
        _ => Ok(part.to_owned()),
    });
    Ok(parts.collect::<Result<Vec<_>>>()?.join("."))
}

/// The first and last layer of `[0-3]`.
fn range(part: &str) -> Option<(i64, i64)> {
    let (first, last) = part.strip_prefix('[')?.strip_suffix(']')?.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?)).filter(|(first, last)| first <= last)
}

/// The error for a name that means nothing, with what is nearest to it.
fn unknown(name: &str, plain: &str, config: &Config) -> Error {
    let error = Error::new(format!("no hook is named `{name}`"));
    let all: Vec<String> = points(config).iter().map(HookPoint::name).collect();
    // `scale.3`: a last part that several sites share.
    let (kind, layer) =
        plain.rsplit_once('.').filter(|(_, layer)| layer.parse::<i64>().is_ok()).unwrap_or((plain, "0"));
    let shared = |full: &&String| {
        full.split('.').nth(1) == Some(layer) && last_part(full).replace("hook_", "") == kind.replace("hook_", "")
    };
    let shared: Vec<String> = all.iter().filter(shared).map(|full| format!("`{full}`")).collect();
    if !shared.is_empty() {
        return error.hint(format!("say which: {}", shared.join(", ")));
    }
    let elsewhere = match plain {
        "rotary_emb.hook_cos" | "rotary_emb.hook_sin" => "each layer has its own: `blocks.0.attn.hook_cos`, `hook_sin`",
        "embed.hook_in" | "pos_embed.hook_in" => "it would hold token ids or positions, which are not activations",
        _ => "",
    };
    if !elsewhere.is_empty() {
        return error.hint(elsewhere);
    }
    match nearest(name, all.iter().map(String::as_str)) {
        Some(near) => error.hint(format!("did you mean `{near}`? `model.hook_names` lists them all")),
        None => error.hint("`model.hook_names` lists them all; for example `blocks.0.hook_resid_post`"),
    }
}
