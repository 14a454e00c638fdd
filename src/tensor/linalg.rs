//! Products of tensors, and linear algebra on matrices.

use super::place::{all_together, together};
use super::{Tensor, named, refusal};
use crate::error::{Error, Result};

/// Contracts tensors by an Einstein summation, such as `bpd,dv->bpv`.
///
/// # Errors
/// An invalid equation, or shapes that do not fit it.
pub fn einsum(equation: &str, tensors: &[Tensor]) -> Result<Tensor> {
    let tensors = all_together(tensors)?;
    let parts: Vec<&tch::Tensor> = tensors.iter().map(Tensor::tch).collect();
    let operands: Vec<&Tensor> = tensors.iter().collect();
    named(&format!("einsum {equation}"), &operands, tch::Tensor::f_einsum(equation, &parts, None::<&[i64]>))
}

/// The cosine of the angle between vectors along `dim`.
///
/// # Errors
/// Shapes that do not broadcast.
pub fn cosine_similarity(left: &Tensor, right: &Tensor, dim: i64) -> Result<Tensor> {
    let [first, second] = together([&left.as_float()?, &right.as_float()?])?;
    named("cosine_similarity", &[left, right], tch::Tensor::f_cosine_similarity(first.tch(), second.tch(), dim, 1e-8))
}

impl Tensor {
    /// The matrix product over the last two dimensions; vectors count as a row or a column.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn matmul(&self, other: &Self) -> Result<Self> {
        let [left, right] = &together([self, other])?;
        named("matmul", &[left, right], left.tch().f_matmul(right.tch()))
    }

    /// The inner product of two vectors.
    ///
    /// # Errors
    /// Tensors that are not vectors of one length.
    pub fn dot(&self, other: &Self) -> Result<Self> {
        let [left, right] = &together([self, other])?;
        named("dot", &[left, right], left.tch().f_dot(right.tch()))
    }

    /// The outer product of two vectors, a matrix.
    ///
    /// # Errors
    /// Tensors that are not vectors.
    pub fn outer(&self, other: &Self) -> Result<Self> {
        let [left, right] = &together([self, other])?;
        named("outer", &[left, right], left.tch().f_outer(right.tch()))
    }

    /// The sum of the diagonal of a matrix.
    ///
    /// # Errors
    /// A tensor that is not a matrix.
    pub fn trace(&self) -> Result<Self> {
        named("trace", &[self], self.tch().f_trace())
    }

    /// U [.., m, k], S [.., k] and Vh [.., k, n] with k = min(m, n), whose product U diag(S) Vh is this matrix.
    ///
    /// # Errors
    /// A tensor that is not a matrix, elements that are not finite.
    pub fn svd(&self) -> Result<(Self, Self, Self)> {
        self.need_matrix("svd")?;
        let (u, s, v) = self.tch().f_svd(true, true).map_err(|error| refusal("svd", &[self], error))?;
        let vh = v.f_transpose(-2, -1)?;
        Ok((u.into(), s.into(), vh.into()))
    }

    /// The eigenvalues, ascending, and eigenvectors, in columns, of a symmetric matrix; only its lower half is read.
    ///
    /// # Errors
    /// A tensor that is not a square matrix, elements that are not finite.
    pub fn eigh(&self) -> Result<(Self, Self)> {
        self.need_matrix("eigh")?;
        let (values, vectors) = self.tch().f_linalg_eigh("L").map_err(|error| refusal("eigh", &[self], error))?;
        Ok((values.into(), vectors.into()))
    }

    /// The eigenvalues and the eigenvectors, in columns, of a square matrix; each with its real and its imaginary part.
    ///
    /// # Errors
    /// A tensor that is not a square matrix, elements that are not finite.
    pub fn eig(&self) -> Result<[Self; 4]> {
        self.need_matrix("eig")?;
        let (values, vectors) =
            tch::Tensor::f_linalg_eig(self.tch()).map_err(|error| refusal("eig", &[self], error))?;
        let part = |tensor: &tch::Tensor, place: i64| -> Result<Self> {
            Ok(tensor.f_view_as_real()?.f_select(-1, place)?.f_contiguous()?.into())
        };
        Ok([part(&values, 0)?, part(&values, 1)?, part(&vectors, 0)?, part(&vectors, 1)?])
    }

    /// Q, with orthonormal columns, and the upper triangular R whose product is this matrix.
    ///
    /// # Errors
    /// A tensor that is not a matrix.
    pub fn qr(&self) -> Result<(Self, Self)> {
        self.need_matrix("qr")?;
        let (q, r) = tch::Tensor::f_linalg_qr(self.tch(), "reduced").map_err(|error| refusal("qr", &[self], error))?;
        Ok((q.into(), r.into()))
    }

    /// The X for which this matrix times X is `right`.
    ///
    /// # Errors
    /// A matrix that is not square or is singular, shapes that do not fit.
    pub fn solve(&self, right: &Self) -> Result<Self> {
        let [left, right] = &together([self, right])?;
        named("solve", &[left, right], tch::Tensor::f_linalg_solve(left.tch(), right.tch(), true))
    }

    /// The X that brings this matrix times X closest to `right`, the one of least norm among several.
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn lstsq(&self, right: &Self) -> Result<Self> {
        self.need_matrix("lstsq")?;
        let [left, right] = &together([self, right])?;
        let driver = if left.device() == tch::Device::Cpu { "gelsd" } else { "gels" };
        let column = right.ndim() == 1;
        let target = if column { right.unsqueeze(1)? } else { right.clone() };
        let (solution, _, _, _) = left
            .tch()
            .f_linalg_lstsq(target.tch(), None, driver)
            .map_err(|error| refusal("lstsq", &[left, right], error))?;
        let solution = Self::new(solution);
        if column { solution.squeeze(Some(1)) } else { Ok(solution) }
    }

    /// The inverse of a matrix.
    ///
    /// # Errors
    /// A matrix that is not square or is singular.
    pub fn inv(&self) -> Result<Self> {
        named("inv", &[self], tch::Tensor::f_linalg_inv(self.tch()))
    }

    /// The Moore-Penrose inverse of a matrix.
    ///
    /// # Errors
    /// A tensor that is not a matrix, elements that are not finite.
    pub fn pinv(&self) -> Result<Self> {
        self.need_matrix("pinv")?;
        named("pinv", &[self], self.tch().f_linalg_pinv_atol_rtol_float(None, None, false))
    }

    /// The determinant of a matrix.
    ///
    /// # Errors
    /// A tensor that is not a square matrix.
    pub fn det(&self) -> Result<Self> {
        named("det", &[self], tch::Tensor::f_linalg_det(self.tch()))
    }

    /// The lower triangular L for which L times its transpose is this matrix.
    ///
    /// # Errors
    /// A matrix that is not square, symmetric and positive definite.
    pub fn cholesky(&self) -> Result<Self> {
        self.need_matrix("cholesky")?;
        named("cholesky", &[self], self.tch().f_linalg_cholesky(false))
    }

    /// The exponential of a square matrix.
    ///
    /// # Errors
    /// A tensor that is not a square matrix.
    pub fn matrix_exp(&self) -> Result<Self> {
        self.need_matrix("matrix_exp")?;
        named("matrix_exp", &[self], self.tch().f_linalg_matrix_exp())
    }

    /// The rank of a matrix, as i64.
    ///
    /// # Errors
    /// A tensor that is not a matrix.
    pub fn matrix_rank(&self) -> Result<Self> {
        self.need_matrix("matrix_rank")?;
        named("matrix_rank", &[self], self.tch().f_linalg_matrix_rank_atol_rtol_float(None, None, false))
    }

    fn need_matrix(&self, operation: &str) -> Result<()> {
        if self.ndim() >= 2 {
            return Ok(());
        }
        Err(Error::new(format!("`{operation}` needs a matrix, not {}", self.describe())))
    }
}
