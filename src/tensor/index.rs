//! Picking and replacing elements by position, as PyTorch's `t[...]` does. Positions are checked here because on a GPU
//! libtorch reports a wrong one only after it has corrupted the whole process.

use tch::Kind;

use super::arithmetic::{Operand, Operator};
use super::element::Number;
use super::raw::copy;
use super::shape::broadcast;
use super::{Tensor, kind_name, named, refusal};
use crate::error::{Error, Result};

/// The index of one dimension.
#[derive(Debug, Clone)]
pub enum Index {
    /// One position, from the end if negative; the dimension goes.
    At(i64),
    /// Positions from the first number to just before the second, or to the last position.
    Range(i64, Option<i64>),
    /// Every position.
    All,
    /// The positions listed.
    List(Vec<i64>),
    /// The positions in an integer tensor, or where a bool tensor is true.
    Tensor(Tensor),
    /// Every position of the dimensions that the other indexes leave.
    Ellipsis,
}

impl Index {
    /// The number of dimensions that it takes.
    fn dims(&self) -> usize {
        match self {
            Self::Tensor(mask) if mask.kind() == Kind::Bool => mask.ndim(),
            Self::Ellipsis => 0,
            _ => 1,
        }
    }
}

/// The rest after positions and ranges are applied: a view, and for some of its dimensions the positions to gather.
struct View {
    base: tch::Tensor,
    gathers: Vec<Option<tch::Tensor>>,
}

impl View {
    fn gathers_any(&self) -> bool {
        self.gathers.iter().any(Option::is_some)
    }
}

impl Tensor {
    /// The elements at `indexes`, one index per dimension from the first on.
    ///
    /// # Errors
    /// Too many indexes, positions out of range, or a mask of another shape.
    pub fn index(&self, indexes: &[Index]) -> Result<Self> {
        let view = self.view(self.share(), indexes)?;
        if !view.gathers_any() {
            return Ok(view.base.into());
        }
        named("index", &[self], view.base.f_index(&view.gathers))
    }

    /// A copy in which the elements at `indexes` are `value`, broadcast to their shape.
    ///
    /// # Errors
    /// As for [`Tensor::index`]; also a value that does not fit the shape or the element type.
    pub fn with_index(&self, indexes: &[Index], value: &Operand) -> Result<Self> {
        let copy = Self::new(copy(self.tch())?);
        let value = self.storable(value)?;
        let mut view = copy.view(copy.share(), indexes)?;
        let target = if view.gathers_any() { view.base.f_index(&view.gathers)?.size() } else { view.base.size() };
        if broadcast(&target, &value.shape()).as_ref() != Some(&target) {
            return Err(Error::new(format!(
                "a value of shape {:?} does not fit the indexed part, of shape {target:?}, of a tensor of shape {:?}",
                value.shape(),
                self.shape()
            )));
        }
        if view.gathers_any() {
            view.base.f_index_put_(&view.gathers, value.tch(), false).map(drop)
        } else {
            view.base.f_copy_(value.tch())
        }
        .map_err(|error| refusal("index", &[self, &value], error))?;
        Ok(copy)
    }

    /// The part from `start` to just before `end` along `dim`; negative ends count from the end and ends beyond the
    /// tensor are cut to it.
    ///
    /// # Errors
    /// A dimension that the tensor does not have.
    pub fn slice(&self, dim: i64, start: Option<i64>, end: Option<i64>) -> Result<Self> {
        named("slice", &[self], self.tch().f_slice(self.resolve_dim(dim)?, start, end, 1))
    }

    /// The part at position `index` of `dim`; the dimension goes.
    ///
    /// # Errors
    /// A dimension or a position that the tensor does not have.
    pub fn select(&self, dim: i64, index: i64) -> Result<Self> {
        let dim = self.resolve_dim(dim)?;
        named("select", &[self], self.tch().f_select(dim, position(index, dim, self.size_of(dim)?)?))
    }

    /// The parts at the positions `ids`, a list, of `dim`.
    ///
    /// # Errors
    /// A dimension or a position that the tensor does not have, positions that are not a list of integers.
    pub fn index_select(&self, dim: i64, ids: &Self) -> Result<Self> {
        let dim = self.resolve_dim(dim)?;
        if ids.ndim() != 1 {
            return Err(Error::new(format!("`index_select` needs a list of positions, not {}", ids.describe())));
        }
        let ids = self.positions(ids, dim, self.size_of(dim)?)?;
        named("index_select", &[self], self.tch().f_index_select(dim, ids.tch()))
    }

    /// The elements whose position along `dim` is in `index`, of the shape of `index`.
    ///
    /// # Errors
    /// A dimension or a position that the tensor does not have, positions that are not integers or of another shape.
    pub fn gather(&self, dim: i64, index: &Self) -> Result<Self> {
        let dim = self.resolve_dim(dim)?;
        let index = self.positions(index, dim, self.size_of(dim)?)?;
        named("gather", &[self, &index], self.tch().f_gather(dim, index.tch(), false))
    }

    /// A copy in which the elements whose position along `dim` is in `index` are those of `source`.
    ///
    /// # Errors
    /// As for [`Tensor::gather`]; also values that do not fit the element type.
    pub fn scatter(&self, dim: i64, index: &Self, source: &Operand) -> Result<Self> {
        let dim = self.resolve_dim(dim)?;
        let index = self.positions(index, dim, self.size_of(dim)?)?;
        let source = self.storable(source)?;
        let source = if source.ndim() == 0 { source.expand(&index.shape())? } else { source };
        named("scatter", &[self, &index, &source], self.tch().f_scatter(dim, index.tch(), source.tch()))
    }

    /// A copy in which the elements where `mask` is true are `value`.
    ///
    /// # Errors
    /// A mask that is not a bool tensor or does not fit the shape, a value that does not fit the element type.
    pub fn masked_fill(&self, mask: &Self, value: Number) -> Result<Self> {
        if mask.kind() != Kind::Bool {
            return Err(Error::new(format!(
                "the mask of `masked_fill` must be a bool tensor, not {}",
                mask.describe()
            ))
            .hint("compare first, as in `t.masked_fill(t < 0, 0)`"));
        }
        if broadcast(&self.shape(), &mask.shape()).as_ref() != Some(&self.shape()) {
            return Err(Error::new(format!(
                "a mask of shape {:?} does not fit a tensor of shape {:?}",
                mask.shape(),
                self.shape()
            )));
        }
        let (mask, value) = (&mask.to(None, Some(self.device()))?, self.storable(&value.into())?);
        named("masked_fill", &[self, mask], self.tch().f_masked_fill_tensor(mask.tch(), value.tch()))
    }

    /// For each of these class numbers a row of `classes` elements, 1 at the class and 0 elsewhere, as i64.
    ///
    /// # Errors
    /// A class number outside 0 to just below `classes`.
    pub fn one_hot(&self, classes: i64) -> Result<Self> {
        if self.numel() > 0 && self.tch().f_min()?.f_double_value(&[])? < 0.0 {
            return Err(Error::new("`one_hot` needs class numbers from 0 on, and some are negative"));
        }
        let ids = self.positions(self, 0, classes)?;
        named("one_hot", &[self], ids.tch().f_one_hot(classes))
    }

    /// The indexes with one for each dimension that an ellipsis stands for.
    fn without_ellipsis(&self, indexes: &[Index]) -> Result<Vec<Index>> {
        let is_ellipsis = |index: &Index| matches!(index, Index::Ellipsis);
        let Some(place) = indexes.iter().position(is_ellipsis) else { return Ok(indexes.to_vec()) };
        if indexes.iter().skip(place + 1).any(is_ellipsis) {
            return Err(Error::new("an index can hold `...` once only"));
        }
        let left = self.ndim().saturating_sub(indexes.iter().map(Index::dims).sum());
        let mut all = indexes.to_vec();
        drop(all.splice(place..=place, vec![Index::All; left]));
        Ok(all)
    }

    fn view(&self, mut base: tch::Tensor, indexes: &[Index]) -> Result<View> {
        let mut gathers: Vec<Option<tch::Tensor>> = Vec::new();
        let mut dim = 0;
        for index in &self.without_ellipsis(indexes)? {
            let wanted = index.dims();
            let sizes = base.size();
            let covered = sizes.get(dim..dim + wanted).ok_or_else(|| {
                Error::new(format!("too many indexes for a tensor of shape {:?}", self.shape()))
                    .hint(format!("give at most {}", self.ndim()))
            })?;
            let size = covered.first().copied().unwrap_or(1);
            let (along, axis) = (dim as i64, self.ndim() as i64 - (sizes.len() - dim) as i64);
            match index {
                Index::At(at) => base = base.f_select(along, position(*at, axis, size)?)?,
                Index::Range(start, end) => {
                    let (start, end) = range(*start, *end, axis, size)?;
                    base = base.f_slice(along, start, end, 1)?;
                    gathers.push(None);
                }
                Index::All | Index::Ellipsis => gathers.push(None),
                Index::List(list) => {
                    let list = list.iter().map(|&at| position(at, axis, size)).collect::<Result<Vec<_>>>()?;
                    gathers.push(Some(tch::Tensor::f_from_slice(&list)?.f_to_device(self.device())?));
                }
                Index::Tensor(mask) if mask.kind() == Kind::Bool => {
                    if mask.shape() != covered {
                        return Err(Error::new(format!(
                            "a mask of shape {:?} does not fit a tensor of shape {:?}",
                            mask.shape(),
                            self.shape()
                        )));
                    }
                    gathers.push(Some(mask.to(None, Some(self.device()))?.share()));
                }
                Index::Tensor(ids) => gathers.push(Some(self.positions(ids, axis, size)?.share())),
            }
            if !matches!(index, Index::At(_)) {
                dim += wanted;
            }
        }
        Ok(View { base, gathers })
    }

    /// A tensor of positions in a dimension of `size`, checked, as i64 on this tensor's device.
    fn positions(&self, ids: &Self, dim: i64, size: i64) -> Result<Self> {
        if ids.is_float() || ids.kind() == Kind::Bool {
            return Err(Error::new(format!("positions must be integers, not {}", ids.describe()))
                .hint("convert them with `.to(\"i64\")`"));
        }
        let ids = ids.to(Some(Kind::Int64), Some(self.device()))?;
        if ids.numel() == 0 {
            return Ok(ids);
        }
        let (low, high) = (ids.tch().f_min()?.f_int64_value(&[])?, ids.tch().f_max()?.f_int64_value(&[])?);
        if high >= size || low < -size {
            position(if high >= size { high } else { low }, dim, size)?;
        }
        if low >= 0 {
            return Ok(ids);
        }
        Operator::Remainder.apply(&ids.into(), &Number::Integer(size).into())
    }

    /// `value` as a tensor that can be written into this one.
    fn storable(&self, value: &Operand) -> Result<Self> {
        let (text, fits) = match value {
            Operand::Number(number) => (number.to_string(), number.fits(self.kind())),
            Operand::Tensor(tensor) => (tensor.describe(), self.is_float() || !tensor.is_float()),
        };
        if !fits {
            return Err(Error::new(format!("{text} cannot be stored in a tensor of dtype {}", kind_name(self.kind())))
                .hint("convert the tensor first, as in `t.to(\"f32\")`"));
        }
        match value {
            Operand::Number(number) => number.to_tensor(self.kind())?.to(None, Some(self.device())),
            Operand::Tensor(tensor) => tensor.to(Some(self.kind()), Some(self.device())),
        }
    }
}

/// The position `index` in a dimension of `size`, counted from the front.
fn position(index: i64, dim: i64, size: i64) -> Result<i64> {
    let resolved = if index < 0 { index.saturating_add(size) } else { index };
    if (0..size).contains(&resolved) {
        return Ok(resolved);
    }
    Err(Error::new(format!("index {index} is out of range for dimension {dim} of size {size}")))
}

/// The ends of a range in a dimension of `size`, counted from the front.
fn range(start: i64, end: Option<i64>, dim: i64, size: i64) -> Result<(i64, i64)> {
    let resolve = |end: i64| if end < 0 { end.saturating_add(size) } else { end };
    let end = end.unwrap_or(size);
    let (first, last) = (resolve(start), resolve(end));
    if (0..=size).contains(&first) && (0..=size).contains(&last) {
        return Ok((first, last));
    }
    Err(Error::new(format!("range {start}..{end} is out of range for dimension {dim} of size {size}"))
        .hint("`t.slice(dim, start, end)` cuts the ends to the tensor"))
}
