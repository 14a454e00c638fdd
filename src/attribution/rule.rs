//! Where integrated gradients are taken between two runs.

/// Where between two runs gradients are taken; t = 0 is the corrupted end, 1 the clean one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// t = (i + 1/2) / steps
    Midpoint,
    /// t = i / steps
    Left,
    /// t = (i + 1) / steps
    Right,
}

impl Rule {
    /// The places of `steps` runs.
    pub fn places(self, steps: i64) -> impl Iterator<Item = f64> {
        let offset = match self {
            Self::Midpoint => 0.5,
            Self::Left => 0.0,
            Self::Right => 1.0,
        };
        (0..steps).map(move |step| (step as f64 + offset) / steps as f64)
    }
}
