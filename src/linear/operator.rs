//! One linear map between two nodes as an object: applied, transposed, as a matrix, its singular values. It is kept as its
//! factors.

use tch::{Kind, Tensor};

use super::edge::Crossing;
use super::frozen::{Frozen, zeros};
use super::norm::At;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::model::decoder::Decoder;
use crate::model::run::Hooks;

/// A node: a layer (0 before the first, n_layers after the last) and a position.
pub type Node = (usize, i64);

/// One step of a path.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Where it leads, a position
    pub target: i64,
    /// The heads along it; None: all
    pub heads: Option<Vec<i64>>,
    /// Whether the residual stream goes along; None: from a position to itself only
    pub residual: Option<bool>,
}

/// What a map leads along.
#[derive(Debug)]
enum Way {
    /// One edge per layer, with where each comes from
    Path(Vec<(Crossing, Tensor)>),
    /// Every edge
    Whole,
}

/// A linear map from one node to another, [d_model] to [d_model].
#[derive(Debug)]
pub struct Operator<'a> {
    decoder: &'a Decoder,
    frozen: &'a Frozen,
    from: Node,
    to: Node,
    way: Way,
    /// Whether the frozen final norm follows, so that the unembedding makes logits of the outcome
    normed: bool,
}

/// The largest singular values of a map and their vectors.
#[derive(Debug)]
pub struct Singular {
    /// [k], falling
    pub values: Tensor,
    /// Directions that the map writes, [d_model, k]
    pub left: Tensor,
    /// Directions that it reads, [d_model, k]
    pub right: Tensor,
}

impl<'a> Operator<'a> {
    /// The map along every edge between two nodes.
    pub fn whole(decoder: &'a Decoder, frozen: &'a Frozen, from: Node, to: Node) -> Result<Self> {
        frozen.residual(from.0)?;
        frozen.residual(to.0)?;
        if from.0 > to.0 || from.1 > to.1 {
            return Err(Error::new(format!("nothing leads from node {from:?} to node {to:?}")).hint(
                "a node is (layer, position); maps lead to later layers, and to the same position or later ones",
            ));
        }
        Ok(Self { decoder, frozen, from, to, way: Way::Whole, normed: false })
    }

    /// The map along one path that starts at node `from`, heads weighted by their attention.
    pub fn path(decoder: &'a Decoder, frozen: &'a Frozen, from: Node, steps: &[Step]) -> Result<Self> {
        let heads = decoder.config.n_heads;
        let mut position = frozen.position(from.1)?;
        let mut crossings = Vec::with_capacity(steps.len());
        for (layer, step) in (from.0..).zip(steps) {
            let pattern = &frozen.layer(layer)?.pattern;
            let target = frozen.position(step.target)?;
            if target < position {
                return Err(Error::new(format!("a path cannot lead from position {position} back to {target}"))
                    .hint("attention looks back only, so what is written moves forward"));
            }
            let mut share = vec![0.0; heads as usize];
            let all: Vec<i64> = (0..heads).collect();
            for head in step.heads.as_ref().unwrap_or(&all) {
                let place = share.get_mut(*head as usize).filter(|_| *head >= 0).ok_or_else(|| {
                    Error::new(format!("head {head} is out of range")).hint(format!("heads are 0 to {}", heads - 1))
                })?;
                *place = pattern.f_double_value(&[*head, target, position])?;
            }
            let residual = f64::from(u8::from(step.residual.unwrap_or(position == target)));
            let number = |value: f64| -> Result<Tensor> {
                Ok(Tensor::f_from_slice(&[value])?.f_to_device_(decoder.device, decoder.kind, false, false)?)
            };
            let index = |value: i64| -> Result<Tensor> { Ok(Tensor::f_from_slice(&[value])?.f_to(decoder.device)?) };
            let weight = Tensor::f_from_slice(&share)?.f_to_device_(decoder.device, decoder.kind, false, false)?;
            let crossing = Crossing {
                target: index(target)?,
                weight: weight.f_view([1, heads, 1])?,
                residual: number(residual)?.f_view([1, 1])?,
            };
            crossings.push((crossing, index(position)?));
            position = target;
        }
        let to = (from.0 + steps.len(), position);
        Ok(Self { decoder, frozen, from, to, way: Way::Path(crossings), normed: false })
    }

    /// The same map followed by the frozen final norm.
    ///
    /// # Errors
    /// The map does not reach the last node.
    pub fn normed(mut self) -> Result<Self> {
        if self.to.0 != self.frozen.depth() {
            return Err(Error::new(format!("the map ends at node {:?}, before the last layer", self.to))
                .hint(format!("give one position for each of the {} nodes", self.frozen.depth() + 1)));
        }
        self.normed = true;
        Ok(self)
    }

    /// Vectors through the map, [row, d_model].
    pub fn apply(&self, vectors: &Tensor) -> Result<Tensor> {
        let mut out = match &self.way {
            Way::Whole => {
                let rows = vectors.size().first().copied().unwrap_or(0);
                let x = zeros(self.decoder, &[rows, self.frozen.length(), self.decoder.config.d_model])?;
                x.f_select(1, self.from.1)?.f_copy_(vectors)?;
                let hooks = &mut Hooks::none();
                self.frozen.forward(self.decoder, x, self.from.0..self.to.0, false, hooks)?.f_select(1, self.to.1)?
            }
            Way::Path(crossings) => {
                let mut x = vectors.shallow_clone();
                for (layer, (crossing, source)) in (self.from.0..self.to.0).zip(crossings) {
                    interrupt::check()?;
                    let part = self.frozen.at(self.decoder, layer)?;
                    x = part.cross(&x, &part.values(&x, At::Rows(source), false)?, crossing)?;
                }
                x
            }
        };
        if self.normed {
            out = self.frozen.final_norm.linear(&out, At::Rows(&self.end()?))?;
        }
        Ok(out)
    }

    /// Covectors through the transposed map, [row, d_model].
    pub fn apply_transposed(&self, covectors: &Tensor) -> Result<Tensor> {
        let mut covectors = covectors.shallow_clone();
        if self.normed {
            covectors = self.frozen.final_norm.transposed(&covectors, At::Rows(&self.end()?))?;
        }
        match &self.way {
            Way::Whole => {
                let rows = covectors.size().first().copied().unwrap_or(0);
                let last = zeros(self.decoder, &[rows, self.frozen.length(), self.decoder.config.d_model])?;
                last.f_select(1, self.to.1)?.f_copy_(&covectors)?;
                let covectors = self.frozen.pull_back(self.decoder, last, self.from.0..self.to.0)?;
                Ok(covectors.first()?.f_select(1, self.from.1)?)
            }
            Way::Path(crossings) => {
                for (layer, (crossing, source)) in (self.from.0..self.to.0).zip(crossings).rev() {
                    interrupt::check()?;
                    let part = self.frozen.at(self.decoder, layer)?;
                    let (mixed, with_mlp) = part.pull_back(&covectors, At::Rows(&crossing.target))?;
                    covectors = part.cross_transposed((&mixed, &with_mlp), crossing, source)?;
                }
                Ok(covectors)
            }
        }
    }

    /// The map written out, [d_model, d_model]: what it makes of a column vector x is matrix · x.
    pub fn matrix(&self) -> Result<Tensor> {
        let size = self.decoder.config.d_model;
        let unit = Tensor::f_eye(size, (self.decoder.kind, self.decoder.device))?;
        Ok(self.apply(&unit)?.f_transpose(0, 1)?.f_contiguous()?)
    }

    /// The `count` largest singular values, by Golub-Kahan-Lanczos bidiagonalisation with full reorthogonalisation (Golub, Van
    /// Loan, Matrix Computations, 10.4): the map itself is never written out.
    pub fn singular(&self, count: i64) -> Result<Singular> {
        let size = self.decoder.config.d_model;
        if !(1..=size).contains(&count) {
            return Err(Error::new(format!("cannot give {count} singular values")).hint(format!("1 to {size}")));
        }
        let mut bidiagonal = Bidiagonal::start(self)?;
        loop {
            interrupt::check()?;
            let done = bidiagonal.grow(self)?;
            let steps = bidiagonal.alpha.len() as i64;
            if done || steps >= size || (steps >= count && steps % 4 == 0 && bidiagonal.is_settled(count)?) {
                return bidiagonal.singular(count);
            }
        }
    }

    /// The `count` tokens whose logits each direction raises most, from [d_model, k]; the map must end in the final norm.
    pub fn tokens(&self, directions: &Tensor, count: i64) -> Result<Vec<Vec<i64>>> {
        top_tokens(&self.decoder.unembedding.weight, directions, count)
    }

    /// The `count` tokens whose embeddings lie furthest in each direction, from [d_model, k].
    pub fn input_tokens(&self, directions: &Tensor, count: i64) -> Result<Vec<Vec<i64>>> {
        top_tokens(&self.decoder.embedding, directions, count)
    }

    fn end(&self) -> Result<Tensor> {
        Ok(Tensor::f_from_slice(&[self.to.1])?.f_to(self.decoder.device)?)
    }
}

fn top_tokens(weight: &Tensor, directions: &Tensor, count: i64) -> Result<Vec<Vec<i64>>> {
    let scores = directions.f_to_kind(weight.kind())?.f_transpose(0, 1)?.f_matmul(&weight.f_transpose(0, 1)?)?;
    let (_, ids) = scores.f_topk(count.min(weight.size().first().copied().unwrap_or(0)), 1, true, true)?;
    Ok(Vec::<Vec<i64>>::try_from(&ids.f_to(tch::Device::Cpu)?)?)
}

/// The state of the bidiagonalisation: A V = U B, with B's diagonal `alpha` and superdiagonal `beta`.
struct Bidiagonal {
    left: Vec<Tensor>,
    right: Vec<Tensor>,
    alpha: Vec<f64>,
    beta: Vec<f64>,
}

impl Bidiagonal {
    fn start(operator: &Operator) -> Result<Self> {
        let size = operator.decoder.config.d_model;
        // Any start that is not orthogonal to a singular vector does; this one is the same every time.
        let places = crate::tensor::raw::range(1, size + 1, operator.decoder.device)?.f_to_kind(Kind::Double)?;
        let start = places.f_square()?.f_sin()?;
        let length = start.f_norm()?.f_double_value(&[])?;
        let start = start.f_div(&crate::tensor::raw::constant(length)?)?.f_to_kind(operator.decoder.kind)?;
        Ok(Self { left: Vec::new(), right: vec![start], alpha: Vec::new(), beta: Vec::new() })
    }

    /// One more step; true if the map has no further directions.
    fn grow(&mut self, operator: &Operator) -> Result<bool> {
        let Some(last) = self.right.last() else { return Ok(true) };
        let (left, alpha) = orthonormal(operator.apply(&last.f_unsqueeze(0)?)?.f_squeeze_dim(0)?, &self.left)?;
        let back = operator.apply_transposed(&left.f_unsqueeze(0)?)?.f_squeeze_dim(0)?;
        let (right, beta) = orthonormal(back, &self.right)?;
        self.left.push(left);
        self.alpha.push(alpha);
        self.right.push(right);
        self.beta.push(beta);
        let largest = self.alpha.iter().copied().fold(0.0, f64::max);
        Ok(beta <= largest * 1e-13 || alpha == 0.0)
    }

    /// B = P S Qᵀ, all [steps, steps].
    fn decompose(&self) -> Result<(Tensor, Tensor, Tensor)> {
        let steps = self.alpha.len();
        let mut values = vec![0.0; steps * steps];
        for (row, (alpha, beta)) in self.alpha.iter().zip(&self.beta).enumerate() {
            if let Some(place) = values.get_mut(row * steps + row) {
                *place = *alpha;
            }
            if row + 1 < steps
                && let Some(place) = values.get_mut(row * steps + row + 1)
            {
                *place = *beta;
            }
        }
        let matrix = Tensor::f_from_slice(&values)?.f_view([steps as i64, steps as i64])?;
        Ok(matrix.f_svd(true, true)?)
    }

    /// Whether the largest `count` values have stopped moving: their residuals, beta · |last row of P|, are negligible.
    fn is_settled(&self, count: i64) -> Result<bool> {
        let (left, values, _) = self.decompose()?;
        let last = left.f_select(0, -1)?.f_narrow(0, 0, count)?.f_abs()?.f_max()?.f_double_value(&[])?;
        let beta = self.beta.last().copied().unwrap_or(0.0);
        Ok(beta * last <= 1e-7 * values.f_double_value(&[0])?)
    }

    fn singular(&self, count: i64) -> Result<Singular> {
        let (left, values, right) = self.decompose()?;
        let count = count.min(values.numel() as i64);
        let combine = |basis: &[Tensor], weights: &Tensor| -> Result<Tensor> {
            let basis = Tensor::f_stack(basis, 1)?.f_to_kind(Kind::Double)?;
            Ok(basis.f_matmul(&weights.f_narrow(1, 0, count)?.f_to(basis.device())?)?)
        };
        let steps = self.alpha.len();
        Ok(Singular {
            values: values.f_narrow(0, 0, count)?,
            left: combine(&self.left, &left)?,
            right: combine(self.right.get(..steps).unwrap_or(&self.right), &right)?,
        })
    }
}

/// `vector` without its parts along `basis`, of length 1, and the length it had. Twice is enough (Kahan).
fn orthonormal(vector: Tensor, basis: &[Tensor]) -> Result<(Tensor, f64)> {
    let kind = vector.kind();
    let mut vector = vector;
    if !basis.is_empty() {
        let basis = Tensor::f_stack(basis, 0)?;
        for _ in 0..2 {
            let along = basis.f_matmul(&vector)?;
            vector = vector.f_sub(&along.f_matmul(&basis)?)?;
        }
    }
    let length = vector.f_to_kind(Kind::Double)?.f_norm()?.f_double_value(&[])?;
    let divisor = if length > 0.0 { length } else { 1.0 };
    Ok((vector.f_div(&crate::tensor::raw::constant(divisor)?)?.f_to_kind(kind)?, length))
}
