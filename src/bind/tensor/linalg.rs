//! Products and linear algebra.

use rhai::plugin::*;
use rhai::{Array, Dynamic, Engine, Map};

use super::convert::tensors;
use crate::bind::error::ScriptResult;
use crate::bind::module;
use crate::catalog::topic::Topic;
use crate::tensor::{Tensor, linalg, pattern};

/// Registers the functions.
pub fn register(engine: &mut Engine) {
    module::register(engine, Topic::Tensors, exported_manifest!(product_functions));
    module::register(engine, Topic::Tensors, exported_manifest!(matrix_functions));
}

fn map<const N: usize>(entries: [(&str, Tensor); N]) -> Map {
    entries.into_iter().map(|(name, tensor)| (name.into(), Dynamic::from(tensor))).collect()
}

#[export_module(manifest)]
mod product_functions {
    /// The matrix product over the last two dimensions; earlier ones broadcast, vectors count as a row or a column.
    ///
    /// # Example
    /// ```rhai
    /// let a = tensor([[1, 2], [3, 4]]);
    /// assert_eq(a.matmul(tensor([1, 1])).to_array(), [3, 7]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn matmul(a: Tensor, b: Tensor) -> ScriptResult<Tensor> {
        Ok(a.matmul(&b)?)
    }

    /// The inner product of two vectors.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(tensor([1, 2]).dot(tensor([3, 4])).item(), 11);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn dot(a: Tensor, b: Tensor) -> ScriptResult<Tensor> {
        Ok(a.dot(&b)?)
    }

    /// The outer product of two vectors, a matrix.
    #[rhai_fn(return_raw)]
    pub fn outer(a: Tensor, b: Tensor) -> ScriptResult<Tensor> {
        Ok(a.outer(&b)?)
    }

    /// An Einstein summation over an array of tensors, of letters or of names with spaces between them.
    ///
    /// # Example
    /// ```rhai
    /// let a = ones([2, 3, 4]);
    /// let b = ones([4, 5]);
    /// assert_eq(einsum("bpd,dv->bpv", [a, b]).shape, [2, 3, 5]);
    /// assert_eq(einsum("batch pos d, d vocab -> batch pos vocab", [a, b]).shape, [2, 3, 5]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn einsum(equation: &str, tensors: Array) -> ScriptResult<Tensor> {
        Ok(super::tensors("`einsum`", &tensors).and_then(|tensors| pattern::einsum(equation, &tensors))?)
    }

    /// The cosine of the angle between vectors along dimension `dim`; the other dimensions broadcast.
    ///
    /// # Example
    /// ```rhai
    /// let a = tensor([[1.0, 0.0], [1.0, 1.0]]);
    /// assert_eq(cosine_similarity(a, tensor([[2.0, 0.0]]), 1)[0].item(), 1.0);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn cosine_similarity(a: Tensor, b: Tensor, dim: i64) -> ScriptResult<Tensor> {
        Ok(linalg::cosine_similarity(&a, &b, dim)?)
    }

    /// The sum of the diagonal of a matrix.
    #[rhai_fn(return_raw)]
    pub fn trace(t: Tensor) -> ScriptResult<Tensor> {
        Ok(t.trace()?)
    }
}

#[export_module(manifest)]
mod matrix_functions {
    /// The thin singular value decomposition as `#{U, S, Vh}`: `U.matmul(diag(S)).matmul(Vh)` is the matrix.
    ///
    /// For [.., m, n] and k = min(m, n) the shapes are [.., m, k], [.., k] and [.., k, n]; S is descending. The signs
    /// of the vectors are arbitrary.
    ///
    /// # Example
    /// ```rhai
    /// let a = tensor([[3.0, 0.0], [0.0, 2.0], [0.0, 0.0]]);
    /// let f = svd(a);
    /// assert(allclose(f.U.matmul(diag(f.S)).matmul(f.Vh), a));
    /// ```
    #[rhai_fn(return_raw)]
    pub fn svd(t: Tensor) -> ScriptResult<Map> {
        let (u, s, vh) = t.svd()?;
        Ok(map([("U", u), ("S", s), ("Vh", vh)]))
    }

    /// The eigenvalues of a square matrix, real and imaginary parts in `real` and `imag`, and the eigenvectors, in the
    /// columns of `vectors_real` and `vectors_imag`.
    ///
    /// # Example
    /// ```rhai
    /// let turn = tensor([[0.0, -1.0], [1.0, 0.0]]).eig();
    /// assert_eq(turn.real.to_array(), [0.0, 0.0]);
    /// assert(allclose(turn.imag.abs(), ones([2])));
    /// ```
    #[rhai_fn(return_raw)]
    pub fn eig(t: Tensor) -> ScriptResult<Map> {
        let [real, imag, vectors_real, vectors_imag] = t.eig()?;
        Ok(map([("real", real), ("imag", imag), ("vectors_real", vectors_real), ("vectors_imag", vectors_imag)]))
    }

    /// The eigenvalues, ascending, and eigenvectors, in columns, of a symmetric matrix, as `#{eigenvalues,
    /// eigenvectors}`. Only the lower half of the matrix is read.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(eigh(diag(tensor([2.0, 1.0]))).eigenvalues.to_array(), [1.0, 2.0]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn eigh(t: Tensor) -> ScriptResult<Map> {
        let (eigenvalues, eigenvectors) = t.eigh()?;
        Ok(map([("eigenvalues", eigenvalues), ("eigenvectors", eigenvectors)]))
    }

    /// The QR decomposition as `#{Q, R}`: Q has orthonormal columns, R is upper triangular, and their product is the
    /// matrix.
    #[rhai_fn(return_raw)]
    pub fn qr(t: Tensor) -> ScriptResult<Map> {
        let (q, r) = t.qr()?;
        Ok(map([("Q", q), ("R", r)]))
    }

    /// The X for which `a.matmul(X)` is `b`; `a` is square and invertible, `b` a vector or a matrix.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(solve(eye(2) * 2.0, tensor([2.0, 4.0])).to_array(), [1.0, 2.0]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn solve(a: Tensor, b: Tensor) -> ScriptResult<Tensor> {
        Ok(a.solve(&b)?)
    }

    /// The X that brings `a.matmul(X)` closest to `b` by least squares; `b` is a vector or a matrix.
    #[rhai_fn(return_raw)]
    pub fn lstsq(a: Tensor, b: Tensor) -> ScriptResult<Tensor> {
        Ok(a.lstsq(&b)?)
    }

    /// The inverse of a square matrix.
    #[rhai_fn(return_raw)]
    pub fn inv(t: Tensor) -> ScriptResult<Tensor> {
        Ok(t.inv()?)
    }

    /// The Moore-Penrose inverse of a matrix.
    #[rhai_fn(return_raw)]
    pub fn pinv(t: Tensor) -> ScriptResult<Tensor> {
        Ok(t.pinv()?)
    }

    /// The determinant of a square matrix.
    #[rhai_fn(return_raw)]
    pub fn det(t: Tensor) -> ScriptResult<Tensor> {
        Ok(t.det()?)
    }

    /// The lower triangular L for which `L.matmul(L.T)` is the matrix, which must be symmetric and positive definite.
    #[rhai_fn(return_raw)]
    pub fn cholesky(t: Tensor) -> ScriptResult<Tensor> {
        Ok(t.cholesky()?)
    }

    /// The exponential of a square matrix, the sum over k of its k-th power divided by k!. That of a matrix that changes
    /// its sign when it is transposed is a rotation.
    ///
    /// # Example
    /// ```rhai
    /// let a = randn([3, 3], #{ seed: 1 });
    /// let rotation = (a - a.T).matrix_exp();
    /// assert(allclose(rotation.matmul(rotation.T), eye(3), #{ atol: 1e-5 }));
    /// ```
    #[rhai_fn(return_raw)]
    pub fn matrix_exp(t: Tensor) -> ScriptResult<Tensor> {
        Ok(t.matrix_exp()?)
    }

    /// The rank of a matrix, i64: how many singular values are not zero up to rounding.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(ones([3, 3]).matrix_rank().item(), 1);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn matrix_rank(t: Tensor) -> ScriptResult<Tensor> {
        Ok(t.matrix_rank()?)
    }
}
