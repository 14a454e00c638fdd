//! One linear map between two nodes as an object: applied, transposed, or written out as a matrix. It is stored as its
//! factors.

use std::rc::Rc;

use tch::{Device, Tensor};

use super::attention::Side;
use super::layer::Crossing;
use super::live::{Hops, Through};
use super::map::{LinearMap, Node};
use super::norm::At;
use super::path::edge::Hop;
use super::singular::Singular;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::model::run::Hooks;

/// One step of a path.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Position where it arrives
    pub target: i64,
    /// The heads along it; None: all
    pub heads: Option<Vec<i64>>,
    /// Whether the residual stream goes along; None: from a position to itself only
    pub residual: Option<bool>,
    /// The vector by which it passes them; by a query or key, a single head
    pub hop: Hop,
}

/// The edges that a map follows.
#[derive(Debug)]
enum Way {
    /// One edge per layer, with its source
    Path(Vec<(Crossing, Tensor)>),
    /// Every edge
    Whole,
}

/// A linear map from one node to another, [d_model] to [d_model].
#[derive(Debug)]
pub struct Operator<'a> {
    map: &'a LinearMap,
    from: Node,
    to: Node,
    way: Way,
    /// Whether the frozen final norm follows, so that the unembedding turns the result into logits
    normed: bool,
}

impl<'a> Operator<'a> {
    /// The map along every edge between two nodes.
    ///
    /// # Errors
    /// A node whose layer is out of range; a start after the end.
    pub fn whole(map: &'a LinearMap, from: Node, to: Node) -> Result<Self> {
        map.check_node_layer(from.0 as i64)?;
        map.check_node_layer(to.0 as i64)?;
        if from.0 > to.0 || map.leads_back(from.1, to.1) {
            return Err(Error::new(format!("nothing leads from node {from:?} to node {to:?}")).hint(
                "a node is (layer, position); maps lead to later layers, and to the same position or later ones",
            ));
        }
        Ok(Self { map, from, to, way: Way::Whole, normed: false })
    }

    /// The map along one path that starts at node `from`, heads weighted by their attention.
    ///
    /// # Errors
    /// A step beyond the last layer, out of the prompt or backward; a head out of range; a step by a query or key along
    /// other than one head, or a query that changes its position, or what [`LinearMap::live`] refuses.
    pub fn path(map: &'a LinearMap, from: Node, steps: &[Step]) -> Result<Self> {
        let to = map.check_node_layer((from.0 + steps.len()) as i64)?;
        let mut position = map.position(from.1)?;
        let mut crossings = Vec::with_capacity(steps.len());
        for (layer, step) in (from.0..).zip(steps) {
            let target = map.position(step.target)?;
            if map.leads_back(position, target) {
                return Err(Error::new(format!("a path cannot lead from position {position} back to {target}"))
                    .hint("attention only looks back, so information only moves forward"));
            }
            crossings.push((crossing(map, layer, (position, target), step)?, map.index(&[position])?));
            position = target;
        }
        Ok(Self { map, from, to: (to, position), way: Way::Path(crossings), normed: false })
    }

    /// The same map followed by the frozen final norm.
    ///
    /// # Errors
    /// The map does not reach the last node.
    pub fn normed(mut self) -> Result<Self> {
        if self.to.0 != self.map.depth() {
            return Err(Error::new(format!("the map ends at node {:?}, before the last layer", self.to))
                .hint(format!("give one position for each of the {} nodes", self.map.depth() + 1)));
        }
        self.normed = true;
        Ok(self)
    }

    /// The map whose factors it applies.
    pub fn map(&self) -> &'a LinearMap {
        self.map
    }

    /// Applies the map to vectors, [row, d_model].
    ///
    /// # Errors
    /// Interruption.
    pub fn apply(&self, vectors: &Tensor) -> Result<Tensor> {
        let mut out = match &self.way {
            Way::Whole => {
                let x = self.map.zeros(&[vectors.size()[0], self.map.length(), self.map.config().d_model])?;
                x.f_select(1, self.from.1)?.f_copy_(vectors)?;
                self.map.forward(x, self.from.0..self.to.0, false, &mut Hooks::none())?.f_select(1, self.to.1)?
            }
            Way::Path(crossings) => {
                let mut x = vectors.shallow_clone();
                for (layer, (crossing, source)) in (self.from.0..self.to.0).zip(crossings) {
                    interrupt::check()?;
                    let layer = self.map.layer(layer);
                    x = layer.cross(&x, &layer.values(&x, At::Rows(source), false)?, crossing)?;
                }
                x
            }
        };
        if self.normed {
            out = self.map.frozen().final_norm.linear(&out, At::Rows(&self.map.index(&[self.to.1])?))?;
        }
        Ok(out)
    }

    /// Applies the transposed map to covectors, [row, d_model].
    ///
    /// # Errors
    /// Interruption.
    pub fn apply_transposed(&self, covectors: &Tensor) -> Result<Tensor> {
        let mut covectors = covectors.shallow_clone();
        if self.normed {
            let at = self.map.index(&[self.to.1])?;
            covectors = self.map.frozen().final_norm.transposed(&covectors, At::Rows(&at))?;
        }
        match &self.way {
            Way::Whole => {
                let last = self.map.zeros(&[covectors.size()[0], self.map.length(), self.map.config().d_model])?;
                last.f_select(1, self.to.1)?.f_copy_(&covectors)?;
                let covectors = self.map.pull_back(last, self.from.0..self.to.0, Through::Values)?;
                Ok(covectors.residual[0].f_select(1, self.from.1)?)
            }
            Way::Path(crossings) => {
                for (layer, (crossing, source)) in (self.from.0..self.to.0).zip(crossings).rev() {
                    interrupt::check()?;
                    let layer = self.map.layer(layer);
                    let (mixed, with_mlp) = layer.pull_back(&covectors, At::Rows(&crossing.target))?;
                    covectors = layer.cross_transposed((&mixed, &with_mlp), crossing, source)?;
                }
                Ok(covectors)
            }
        }
    }

    /// The map written out, [d_model, d_model]: it takes a column vector x to matrix · x.
    ///
    /// # Errors
    /// Interruption.
    pub fn matrix(&self) -> Result<Tensor> {
        let decoder = self.map.decoder();
        let unit = Tensor::f_eye(decoder.config.d_model, (decoder.kind, decoder.output_device()))?;
        Ok(self.apply(&unit)?.f_transpose(0, 1)?.f_contiguous()?)
    }

    /// The `count` largest singular values and their vectors, found without writing the map out.
    ///
    /// # Errors
    /// A count below 1 or above d_model; interruption.
    pub fn singular(&self, count: i64) -> Result<Singular> {
        Singular::of(self, count)
    }

    /// The `count` tokens whose logits each direction raises most, from [d_model, k]; the map must end in the final
    /// norm.
    ///
    /// # Errors
    /// A libtorch error.
    pub fn tokens(&self, directions: &Tensor, count: i64) -> Result<Vec<Vec<i64>>> {
        top_tokens(&self.map.decoder().unembedding.weight, directions, count)
    }

    /// The `count` tokens whose embeddings reach furthest in each direction, from [d_model, k].
    ///
    /// # Errors
    /// A libtorch error.
    pub fn input_tokens(&self, directions: &Tensor, count: i64) -> Result<Vec<Vec<i64>>> {
        top_tokens(&self.map.decoder().embedding, directions, count)
    }
}

/// One step of a path through a layer, between the positions `source` and `target`.
fn crossing(map: &LinearMap, layer: usize, (source, target): (i64, i64), step: &Step) -> Result<Crossing> {
    let decoder = map.decoder();
    let heads = decoder.config.n_heads;
    let pattern = &map.layer(layer).frozen().pattern;
    let mut weights = vec![0.0; heads as usize];
    let all: Vec<i64> = (0..heads).collect();
    for head in step.heads.as_ref().unwrap_or(&all) {
        if !(0..heads).contains(head) {
            return Err(
                Error::new(format!("head {head} is out of range")).hint(format!("heads are 0 to {}", heads - 1))
            );
        }
        if step.hop != Hop::Value {
            continue;
        }
        weights[*head as usize] = pattern.f_double_value(&[*head, target, source])?;
    }
    let residual = f64::from(u8::from(step.residual.unwrap_or(source == target)));
    let floats = |values: &[f64]| {
        Tensor::f_from_slice(values)?.f_to_device_(decoder.output_device(), decoder.kind, false, false)
    };
    Ok(Crossing {
        target: map.index(&[target])?,
        weight: floats(&weights)?.f_view([1, heads, 1])?,
        residual: floats(&[residual])?.f_view([1, 1])?,
        hops: hops(map, layer, (source, target), step)?,
    })
}

/// The hop of a step by a query or key.
fn hops(map: &LinearMap, layer: usize, (source, target): (i64, i64), step: &Step) -> Result<Vec<Hops>> {
    let side = match step.hop {
        Hop::Value => return Ok(Vec::new()),
        Hop::Query => Side::Query,
        Hop::Key => Side::Key,
    };
    let Some([head]) = step.heads.as_deref() else {
        return Err(Error::new(format!("a step by a {} passes one head", side.name())));
    };
    if side == Side::Query && source != target {
        return Err(Error::new(format!(
            "a step by a query stays at its position, and this leads from {source} to {target}"
        )));
    }
    Ok(vec![Hops::new(&Rc::new(map.live(layer)?), side, None, &[[*head, source, target]])?])
}

/// The rows of `weight`, [token, d_model], with the largest products with each direction, [d_model, k].
fn top_tokens(weight: &Tensor, directions: &Tensor, count: i64) -> Result<Vec<Vec<i64>>> {
    let scores = directions
        .f_to_device_(weight.device(), weight.kind(), false, false)?
        .f_transpose(0, 1)?
        .f_matmul(&weight.f_transpose(0, 1)?)?;
    let (_, ids) = scores.f_topk(count.min(weight.size()[0]), 1, true, true)?;
    Ok(Vec::<Vec<i64>>::try_from(&ids.f_to(Device::Cpu)?)?)
}
