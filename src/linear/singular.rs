//! The largest singular values of a map and their vectors, by Golub-Kahan-Lanczos bidiagonalisation with full
//! reorthogonalisation (Golub, Van Loan, Matrix Computations, 10.4): the map itself is never written out.

use tch::{Kind, Tensor};

use super::operator::Operator;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::tensor::raw::{Arithmetic, range};

/// The largest singular values of a map and their vectors.
#[derive(Debug)]
pub struct Singular {
    /// [k], descending
    pub values: Tensor,
    /// Directions that the map writes, [d_model, k]
    pub left: Tensor,
    /// Directions that it reads, [d_model, k]
    pub right: Tensor,
}

impl Singular {
    /// The `count` largest singular values of `operator`.
    ///
    /// # Errors
    /// A count below 1 or above d_model; interruption.
    pub fn of(operator: &Operator, count: i64) -> Result<Self> {
        let size = operator.map().config().d_model;
        if !(1..=size).contains(&count) {
            return Err(Error::new(format!("cannot give {count} singular values")).hint(format!("1 to {size}")));
        }
        let mut bidiagonal = Bidiagonal::start(operator)?;
        loop {
            interrupt::check()?;
            let done = bidiagonal.grow(operator)?;
            let steps = bidiagonal.alpha.len() as i64;
            if done || steps >= size || (steps >= count && steps % 4 == 0 && bidiagonal.is_settled(count)?) {
                return bidiagonal.singular(count);
            }
        }
    }
}

/// The state of the bidiagonalisation: A V = U B, with B's diagonal `alpha` and superdiagonal `beta`.
struct Bidiagonal {
    /// U's columns
    left: Vec<Tensor>,
    /// V's columns, and the next one
    right: Vec<Tensor>,
    alpha: Vec<f64>,
    beta: Vec<f64>,
}

impl Bidiagonal {
    fn start(operator: &Operator) -> Result<Self> {
        let decoder = operator.map().decoder();
        // Any start works unless it is orthogonal to a singular vector; this one is the same every time.
        let places = range(1, decoder.config.d_model + 1, decoder.output_device())?.f_to_kind(Kind::Double)?;
        let start = places.f_square()?.f_sin()?;
        let length = start.f_norm()?.f_double_value(&[])?;
        let start = start.over(length)?.f_to_kind(decoder.kind)?;
        Ok(Self { left: Vec::new(), right: vec![start], alpha: Vec::new(), beta: Vec::new() })
    }

    /// One more step; true if the map has no further directions.
    fn grow(&mut self, operator: &Operator) -> Result<bool> {
        let last = &self.right[self.right.len() - 1];
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
        for row in 0..steps {
            values[row * steps + row] = self.alpha[row];
            if row + 1 < steps {
                values[row * steps + row + 1] = self.beta[row];
            }
        }
        let matrix = Tensor::f_from_slice(&values)?.f_view([steps as i64, steps as i64])?;
        Ok(matrix.f_svd(true, true)?)
    }

    /// Whether the largest `count` values have stopped moving: their residuals, beta · |last row of P|, are negligible.
    fn is_settled(&self, count: i64) -> Result<bool> {
        let (left, values, _) = self.decompose()?;
        let last = left.f_select(0, -1)?.f_narrow(0, 0, count)?.f_abs()?.f_max()?.f_double_value(&[])?;
        let beta = self.beta[self.beta.len() - 1];
        Ok(beta * last <= 1e-7 * values.f_double_value(&[0])?)
    }

    fn singular(&self, count: i64) -> Result<Singular> {
        let (left, values, right) = self.decompose()?;
        let count = count.min(values.numel() as i64);
        let combine = |basis: &[Tensor], weights: &Tensor| -> Result<Tensor> {
            let basis = Tensor::f_stack(basis, 1)?.f_to_kind(Kind::Double)?;
            Ok(basis.f_matmul(&weights.f_narrow(1, 0, count)?.f_to(basis.device())?)?)
        };
        Ok(Singular {
            values: values.f_narrow(0, 0, count)?,
            left: combine(&self.left, &left)?,
            right: combine(&self.right[..self.alpha.len()], &right)?,
        })
    }
}

/// `vector` without its parts along `basis`, scaled to length 1, and the length it had. Twice is enough (Kahan).
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
    Ok((vector.over(divisor)?.f_to_kind(kind)?, length))
}
