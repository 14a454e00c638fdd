//! Paths as scripts write them.

use rhai::{Array, Dynamic, Map};

use super::Linear;
use crate::bind::convert::{expected, integers};
use crate::bind::option::Options;
use crate::error::{Error, Result};
use crate::linear::map::Node;
use crate::linear::operator::{Operator, Step};
use crate::linear::path::edge::Hop;

/// A node as a script gives it: `[layer, position]`.
pub fn node(linear: &Linear, what: &str, value: &Dynamic) -> Result<Node> {
    let wrong = || expected(what, "a node, [layer, position]", value);
    let array = value.read_lock::<Array>().ok_or_else(wrong)?;
    let numbers = integers(what, &array)?;
    let [layer, position] = numbers.as_slice() else { return Err(wrong()) };
    let depth = linear.map.depth() as i64;
    if !(0..=depth).contains(layer) {
        return Err(Error::new(format!("layer {layer} of {what} is out of range"))
            .hint(format!("nodes are 0 (before the first layer) to {depth} (after the last)")));
    }
    Ok((*layer as usize, linear.map.position(*position)?))
}

/// What a map says of a path.
struct Given {
    layer: i64,
    positions: Vec<i64>,
    heads: Option<Vec<Vec<i64>>>,
    residual: Option<Vec<bool>>,
    hops: Option<Vec<Hop>>,
}

impl Given {
    fn read(map: &mut Options) -> Result<Self> {
        // A row of a path table also has these.
        for result in ["logit", "score", "rank", "tokens"] {
            map.any(result);
        }
        let positions = map.array("positions")?.ok_or_else(|| Error::new("a path needs `positions`"))?;
        let heads = map.array("heads")?.map(|steps| steps.iter().map(step_heads).collect::<Result<_>>());
        let residual = map.array("residual")?.map(|steps| steps.iter().map(step_residual).collect::<Result<_>>());
        let hops = map.array("hops")?.map(|steps| steps.iter().map(step_hop).collect::<Result<_>>());
        Ok(Self {
            layer: map.integer("layer")?.unwrap_or(0),
            positions: integers("`positions`", &positions)?,
            heads: heads.transpose()?,
            residual: residual.transpose()?,
            hops: hops.transpose()?,
        })
    }
}

/// A path: an array of positions, one per node; or a map with `positions` and perhaps `layer` (of the first node; 0)
/// and `heads` (for each step, an array of heads), such as a row of a path table.
pub fn path<'a>(linear: &'a Linear, value: &Dynamic) -> Result<Operator<'a>> {
    let Given { layer, positions, heads, residual, hops } = if let Some(array) = value.read_lock::<Array>() {
        Given { layer: 0, positions: integers("a path", &array)?, heads: None, residual: None, hops: None }
    } else if let Some(map) = value.read_lock::<Map>() {
        Options::read("a path", map.clone(), Given::read)?
    } else {
        return Err(expected("a path", "an array of positions, or a row of a path table", value));
    };
    let Some((first, rest)) = positions.split_first() else { return Err(Error::new("the path is empty")) };
    let depth = linear.map.depth();
    if rest.is_empty() || layer < 0 || layer as usize + rest.len() > depth {
        return Err(Error::new(format!("a path of {} nodes from layer {layer} does not fit", positions.len()))
            .hint(format!("there are {} nodes, one before each layer and one after the last", depth + 1)));
    }
    let lengths = [heads.as_ref().map(Vec::len), residual.as_ref().map(Vec::len), hops.as_ref().map(Vec::len)];
    if lengths.into_iter().flatten().any(|length| length != rest.len()) {
        return Err(Error::new("`heads`, `residual` and `hops` of a path have one entry for each of its steps"));
    }
    let steps: Vec<Step> = rest
        .iter()
        .enumerate()
        .map(|(number, target)| Step {
            target: *target,
            heads: heads.as_ref().map(|heads| heads[number].clone()),
            residual: residual.as_ref().map(|residual| residual[number]),
            hop: hops.as_ref().map_or(Hop::Value, |hops| hops[number]),
        })
        .collect();
    Operator::path(&linear.map, (layer as usize, *first), &steps)
}

fn step_heads(value: &Dynamic) -> Result<Vec<i64>> {
    match value.read_lock::<Array>() {
        Some(heads) => integers("`heads`", &heads),
        None => Err(expected("each item of `heads`", "an array of heads", value)),
    }
}

/// V, Q or K; r is a step along the residual stream.
fn step_hop(value: &Dynamic) -> Result<Hop> {
    match value.to_string().as_str() {
        "V" | "r" => Ok(Hop::Value),
        "Q" => Ok(Hop::Query),
        "K" => Ok(Hop::Key),
        _ => Err(expected("each item of `hops`", "V, Q, K or r", value)),
    }
}

fn step_residual(value: &Dynamic) -> Result<bool> {
    value.as_bool().map_err(|_| expected("each item of `residual`", "true or false", value))
}
