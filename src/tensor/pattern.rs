//! Axes by name, as in einops: `rearrange`, `reduce` and `repeat` by patterns such as `b (h d) p -> b p h d`, and Einstein
//! summations of named axes. Source of the notation: Rogozhnikov, "Einops", ICLR 2022.

use std::collections::BTreeMap;

use super::reduce::{REDUCTIONS, Reduction, Settings};
use super::{Tensor, linalg};
use crate::error::{Error, Result};

/// The letters that stand for names in an Einstein summation.
const LETTERS: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
const ELLIPSIS: &str = "...";

/// The reductions of `reduce`.
const REDUCTIONS_BY_PATTERN: [&str; 5] = ["mean", "sum", "max", "min", "prod"];

/// Lengths of named axes.
pub type Lengths = BTreeMap<String, i64>;

/// One side of a pattern: each dimension with the axes that it is made of.
type Side = Vec<Vec<String>>;

/// A pattern, `left -> right`.
struct Pattern {
    text: String,
    left: Side,
    right: Side,
}

impl Pattern {
    fn parse(text: &str) -> Result<Self> {
        let Some((left, right)) = text.split_once("->") else {
            return Err(wrong(text, "it has no `->`").hint("such as `b p (h d) -> b h p d`"));
        };
        let pattern = Self { text: text.to_owned(), left: side(text, left)?, right: side(text, right)? };
        for side in [&pattern.left, &pattern.right] {
            let mut names: Vec<&String> = side.iter().flatten().filter(|name| *name != "1").collect();
            names.sort_unstable();
            if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
                return Err(wrong(text, &format!("`{}` stands twice on one side", twice[0])));
            }
        }
        Ok(pattern)
    }

    /// The pattern in which names of their own stand for the dimensions of `...`, for a tensor of `ndim` dimensions.
    fn without_ellipsis(mut self, ndim: usize) -> Result<Self> {
        let given = self.left.iter().filter(|group| **group != [ELLIPSIS]).count();
        let left_has = given < self.left.len();
        let right_has = self.right.iter().flatten().any(|name| name == ELLIPSIS);
        if right_has && !left_has {
            return Err(wrong(&self.text, "`...` stands on the right only"));
        }
        if given > ndim || (!left_has && given != ndim) {
            let count = if left_has { format!("at least {given}") } else { given.to_string() };
            return Err(wrong(&self.text, &format!("it wants {count} dimensions, and the tensor has {ndim}")));
        }
        let names: Vec<String> = (0..ndim - given).map(|index| format!("...{index}")).collect();
        for side in [&mut self.left, &mut self.right] {
            *side = std::mem::take(side)
                .into_iter()
                .flat_map(|group| match group.as_slice() {
                    [only] if only == ELLIPSIS => names.iter().map(|name| vec![name.clone()]).collect(),
                    _ => vec![
                        group
                            .iter()
                            .flat_map(|name| if name == ELLIPSIS { names.clone() } else { vec![name.clone()] })
                            .collect(),
                    ],
                })
                .collect();
        }
        Ok(self)
    }

    /// The length of every axis on the left; `given` says those that the shape leaves open.
    fn lengths(&self, shape: &[i64], given: &Lengths) -> Result<Lengths> {
        let mut lengths = given.clone();
        for (group, &size) in self.left.iter().zip(shape) {
            let known: i64 = group.iter().filter_map(|name| length_of(name, given)).product();
            let open: Vec<&String> = group.iter().filter(|name| length_of(name, given).is_none()).collect();
            match open.as_slice() {
                [] if known == size => {}
                [one] if known > 0 && size % known == 0 => {
                    lengths.insert((*one).clone(), size / known);
                }
                [] | [_] => {
                    return Err(wrong(
                        &self.text,
                        &format!("`{}` does not fit a dimension of {size}", group.join(" ")),
                    ));
                }
                [_, second, ..] => {
                    return Err(wrong(&self.text, &format!("the length of `{second}` is not known"))
                        .hint(format!("give it, as in `#{{ {second}: 2 }}`")));
                }
            }
        }
        Ok(lengths)
    }

    fn names(side: &Side) -> Vec<&String> {
        side.iter().flatten().filter(|name| *name != "1").collect()
    }

    /// Fails for a length that no axis has, and for an axis of `missing_from` that the other side lacks.
    fn check(&self, given: &Lengths, may_drop: bool, may_add: bool) -> Result<()> {
        let (left, right) = (Self::names(&self.left), Self::names(&self.right));
        if let Some(name) = given.keys().find(|name| !left.contains(name) && !right.contains(name)) {
            return Err(wrong(&self.text, &format!("it has no axis `{name}`")));
        }
        if let Some(name) = left.iter().find(|name| !right.contains(name)).filter(|_| !may_drop) {
            return Err(wrong(&self.text, &format!("`{name}` is missing on the right"))
                .hint("`reduce` takes a pattern in which axes go"));
        }
        let is_known = |name: &String| left.contains(&name) || (may_add && given.contains_key(name));
        match right.iter().find(|name| !is_known(name)) {
            Some(name) if may_add => Err(wrong(&self.text, &format!("the length of `{name}` is not known"))
                .hint(format!("give it, as in `#{{ {name}: 2 }}`"))),
            Some(name) => Err(wrong(&self.text, &format!("`{name}` is missing on the left"))
                .hint("`repeat` takes a pattern with new axes")),
            None => Ok(()),
        }
    }
}

fn wrong(pattern: &str, reason: &str) -> Error {
    Error::new(format!("the pattern `{pattern}` cannot be used: {reason}"))
}

/// Reads one side of a pattern.
fn side(pattern: &str, text: &str) -> Result<Side> {
    let mut groups: Side = Vec::new();
    let mut open: Option<Vec<String>> = None;
    for word in text.replace('(', " ( ").replace(')', " ) ").split_whitespace() {
        match word {
            "(" if open.is_none() => open = Some(Vec::new()),
            ")" => groups.push(open.take().ok_or_else(|| wrong(pattern, "a `)` was not opened"))?),
            "(" => return Err(wrong(pattern, "brackets stand inside brackets")),
            _ => {
                let is_name = word.chars().all(|c| c.is_alphanumeric() || c == '_')
                    && !word.starts_with(|c: char| c.is_numeric());
                if !is_name && word != ELLIPSIS && word != "1" {
                    return Err(wrong(pattern, &format!("`{word}` is not the name of an axis")));
                }
                match &mut open {
                    Some(group) => group.push(word.to_owned()),
                    None => groups.push(vec![word.to_owned()]),
                }
            }
        }
    }
    if open.is_some() {
        return Err(wrong(pattern, "a `(` is not closed"));
    }
    Ok(groups)
}

fn length_of(name: &str, lengths: &Lengths) -> Option<i64> {
    if name == "1" { Some(1) } else { lengths.get(name).copied() }
}

impl Tensor {
    /// The tensor with its dimensions split, moved and joined by a pattern.
    ///
    /// # Errors
    /// A pattern that is not one, or does not fit the shape.
    pub fn rearrange(&self, pattern: &str, lengths: &Lengths) -> Result<Self> {
        let pattern = Pattern::parse(pattern)?.without_ellipsis(self.ndim())?;
        pattern.check(lengths, false, false)?;
        self.apply(&pattern, lengths, None)
    }

    /// As [`Tensor::rearrange`]; over axes that the right side lacks, the `reduction` is taken: mean, sum, max, min or prod.
    ///
    /// # Errors
    /// As for [`Tensor::rearrange`].
    pub fn reduce(&self, pattern: &str, reduction: &str, lengths: &Lengths) -> Result<Self> {
        let wanted = |found: &&Reduction| found.name == reduction && REDUCTIONS_BY_PATTERN.contains(&reduction);
        let Some(reduction) = REDUCTIONS.iter().find(wanted) else {
            let known = REDUCTIONS_BY_PATTERN.join(", ");
            return Err(Error::new(format!("`reduce` cannot take the {reduction}")).hint(format!("it takes {known}")));
        };
        let pattern = Pattern::parse(pattern)?.without_ellipsis(self.ndim())?;
        pattern.check(lengths, true, false)?;
        self.apply(&pattern, lengths, Some(reduction))
    }

    /// As [`Tensor::rearrange`]; along axes that the left side lacks the elements are repeated.
    ///
    /// # Errors
    /// As for [`Tensor::rearrange`]; a new axis without a length.
    pub fn repeat_by(&self, pattern: &str, lengths: &Lengths) -> Result<Self> {
        let pattern = Pattern::parse(pattern)?.without_ellipsis(self.ndim())?;
        pattern.check(lengths, false, true)?;
        self.apply(&pattern, lengths, None)
    }

    fn apply(&self, pattern: &Pattern, given: &Lengths, reduction: Option<&Reduction>) -> Result<Self> {
        let lengths = pattern.lengths(&self.shape(), given)?;
        let length = |name: &String| length_of(name, &lengths).unwrap_or(1);
        let mut axes: Vec<&String> = Pattern::names(&pattern.left);
        let mut tensor = self.reshape(&axes.iter().map(|name| length(name)).collect::<Vec<_>>())?;
        let right = Pattern::names(&pattern.right);
        if let Some(reduction) = reduction {
            let gone: Vec<i64> =
                (0..).zip(&axes).filter(|(_, name)| !right.contains(name)).map(|(dim, _)| dim).collect();
            if !gone.is_empty() {
                tensor = reduction.apply(&tensor, &Settings { dims: Some(gone), ..Settings::default() })?;
                axes.retain(|name| right.contains(name));
            }
        }
        for name in right.iter().filter(|name| !axes.contains(name)).copied().collect::<Vec<_>>() {
            tensor = tensor.unsqueeze(0)?;
            axes.insert(0, name);
        }
        let order = right.iter().filter_map(|name| axes.iter().position(|axis| axis == name)).map(|dim| dim as i64);
        let order: Vec<i64> = order.collect();
        let sizes: Vec<i64> = right.iter().map(|name| length(name)).collect();
        let dimensions: Vec<i64> = pattern.right.iter().map(|group| group.iter().map(length).product()).collect();
        tensor.permute(&order)?.expand(&sizes)?.reshape(&dimensions)
    }
}

/// Contracts tensors by an Einstein summation: of letters, `bpd,dv->bpv`, or of names with spaces between them, `batch pos
/// d_model, d_model vocab -> batch pos vocab`.
///
/// # Errors
/// An invalid equation, or shapes that do not fit it.
pub fn einsum(equation: &str, tensors: &[Tensor]) -> Result<Tensor> {
    let terms = |side: &str| side.split(',').map(|term| term.trim().to_owned()).collect::<Vec<_>>();
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (terms(left), Some(right.trim().to_owned())),
        None => (terms(equation), None),
    };
    let is_named = left.iter().chain(&right).any(|term| term.contains(char::is_whitespace));
    if !is_named {
        return linalg::einsum(equation, tensors);
    }
    let Some(right) = right else {
        return Err(Error::new(format!("the equation `{equation}` has no `->`"))
            .hint("such as `batch pos d, d vocab -> batch pos vocab`"));
    };
    let mut letters: BTreeMap<String, char> = BTreeMap::new();
    let mut lettered = |term: &str| -> Result<String> {
        term.split_whitespace()
            .map(|name| {
                if name == ELLIPSIS {
                    return Ok(ELLIPSIS.to_owned());
                }
                let count = letters.len();
                let letter = match letters.get(name) {
                    Some(letter) => *letter,
                    None => LETTERS.chars().nth(count).ok_or_else(|| Error::new("an equation has at most 52 axes"))?,
                };
                letters.insert(name.to_owned(), letter);
                Ok(letter.to_string())
            })
            .collect()
    };
    let left = left.iter().map(|term| lettered(term)).collect::<Result<Vec<_>>>()?;
    let known = left.join("");
    let right_letters = lettered(&right)?;
    if let Some((name, _)) =
        letters.iter().find(|(_, letter)| right_letters.contains(**letter) && !known.contains(**letter))
    {
        return Err(Error::new(format!("`{name}` of the equation `{equation}` is missing on the left")));
    }
    linalg::einsum(&format!("{}->{right_letters}", left.join(",")), tensors)
        .map_err(|error| error.context(format!("`{equation}`")))
}
