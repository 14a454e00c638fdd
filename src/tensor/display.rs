//! Tensors as text: a headline with shape, element type and device, then the elements, abbreviated if there are many.

use std::fmt::{self, Display, Formatter};

use super::element::Number;
use super::{Tensor, kind_name};
use crate::device::device_name;
use crate::error::Result;

/// Tensors with more elements are abbreviated.
const FULL_LIMIT: usize = 1000;
/// How many positions an abbreviated dimension shows at either end.
const EDGE: i64 = 3;
/// Rows are broken to stay within this many characters.
const LINE_WIDTH: usize = 100;

impl Tensor {
    /// One line without the elements, such as `tensor([2, 3] f32 cpu)`; a single number is shown.
    pub fn headline(&self) -> String {
        let headline = format!("tensor({:?} {} {})", self.shape(), kind_name(self.kind()), device_name(self.device()));
        match self.ndim() {
            0 => match self.item() {
                Ok(number) => format!("{headline} {}", Style::of(&[number]).format(number)),
                Err(error) => format!("{headline} ({error})"),
            },
            _ => headline,
        }
    }

    /// The headline, then the elements.
    pub fn summary(&self) -> String {
        match self.ndim() {
            0 => self.headline(),
            _ => match self.rows() {
                Ok(rows) => format!("{}\n{rows}", self.headline()),
                Err(error) => format!("{} ({error})", self.headline()),
            },
        }
    }

    fn rows(&self) -> Result<String> {
        let mut shown = self.share();
        let mut cut = Vec::new();
        for (dim, &size) in self.shape().iter().enumerate() {
            let abbreviated = self.numel() > FULL_LIMIT && size > 2 * EDGE;
            cut.push(abbreviated);
            if abbreviated {
                let positions: Vec<i64> = (0..EDGE).chain(size - EDGE..size).collect();
                let positions = tch::Tensor::f_from_slice(&positions)?.f_to_device(self.device())?;
                shown = shown.f_index_select(dim as i64, &positions)?;
            }
        }
        let shown = Self::new(shown);
        let elements = shown.elements()?;
        let numbers: Vec<Number> = (0..elements.len()).filter_map(|position| elements.get(position)).collect();
        let style = Style::of(&numbers);
        let texts: Vec<String> = numbers.iter().map(|&number| style.format(number)).collect();
        let width = texts.iter().map(|text| text.chars().count()).max().unwrap_or(0);
        let layout = Layout { cut: &cut, shape: &shown.shape(), width };
        Ok(layout.block(0, &texts))
    }
}

impl Display for Tensor {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.summary())
    }
}

/// Arranges texts of equal width in nested brackets.
struct Layout<'a> {
    cut: &'a [bool],
    shape: &'a [i64],
    width: usize,
}

impl Layout<'_> {
    fn block(&self, dim: usize, texts: &[String]) -> String {
        let size = self.shape.get(dim).map_or(0, |&size| size as usize);
        let cut = self.cut.get(dim).copied().unwrap_or(false);
        let indent = " ".repeat(dim + 1);
        if dim + 1 >= self.shape.len() {
            let mut cells: Vec<String> =
                texts.iter().map(|text| format!("{text:>width$}", width = self.width)).collect();
            if cut {
                cells.insert(EDGE as usize, "…".to_owned());
            }
            let per_line = (LINE_WIDTH.saturating_sub(dim) / (self.width + 2)).max(1);
            let lines: Vec<String> = cells.chunks(per_line).map(|line| line.join(", ")).collect();
            return format!("[{}]", lines.join(&format!(",\n{indent}")));
        }
        let step = (texts.len() / size.max(1)).max(1);
        let mut parts: Vec<String> = if texts.is_empty() {
            vec![self.block(dim + 1, texts); size.min(1)]
        } else {
            texts.chunks(step).map(|part| self.block(dim + 1, part)).collect()
        };
        if cut {
            parts.insert(EDGE as usize, "…".to_owned());
        }
        let gap = "\n".repeat(self.shape.len() - dim - 1);
        format!("[{}]", parts.join(&format!(",{gap}{indent}")))
    }
}

/// How all numbers of one tensor are written.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Style {
    /// As they are: bools and integers.
    Plain,
    /// Floats that are all whole.
    Whole,
    /// With this many digits after the point.
    Fixed(usize),
    /// With an exponent.
    Exponent,
}

impl Style {
    /// The style that shows at least four significant digits of the largest number and does not hide the smallest.
    fn of(numbers: &[Number]) -> Self {
        let floats: Vec<f64> = numbers
            .iter()
            .filter_map(|number| match number {
                Number::Float(value) => Some(*value),
                _ => None,
            })
            .collect();
        if floats.is_empty() {
            return Self::Plain;
        }
        let finite = || floats.iter().copied().filter(|value| value.is_finite());
        let largest = finite().map(f64::abs).fold(0.0, f64::max);
        let smallest = finite().map(f64::abs).filter(|&size| size > 0.0).fold(f64::INFINITY, f64::min);
        if finite().all(|value| value.fract() == 0.0) && largest < 1e7 {
            return Self::Whole;
        }
        if !(1e-3..1e5).contains(&largest) || largest / smallest > 1e6 {
            return Self::Exponent;
        }
        // 4 digits after the point from 0.1 to 10, fewer above, more below.
        let magnitude = largest.log10().floor() as i64;
        Self::Fixed(if magnitude < 0 { 3 - magnitude } else { 4 - magnitude } as usize)
    }

    fn format(self, number: Number) -> String {
        match number {
            Number::Bool(value) => value.to_string(),
            Number::Integer(value) => value.to_string(),
            Number::Float(value) if !value.is_finite() => {
                if value.is_nan() {
                    "nan".to_owned()
                } else {
                    value.to_string()
                }
            }
            Number::Float(value) => match self {
                Self::Plain => format!("{value:?}"),
                Self::Whole => format!("{value:.1}"),
                Self::Fixed(digits) => format!("{value:.digits$}"),
                Self::Exponent => format!("{value:.4e}"),
            },
        }
    }
}
