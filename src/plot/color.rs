//! Colours: of a value on a scale, and of each series of a chart.

use kuva::plot::ColorMap as Gradient;

use crate::error::{Error, Result};
use crate::plot::label::short;

/// Red, green, blue.
pub type Rgb = (u8, u8, u8);

/// Colours that colour-blind readers can tell apart (Okabe and Ito), the most legible on white first.
const SERIES: [Rgb; 7] = [
    (0x00, 0x72, 0xb2),
    (0xd5, 0x5e, 0x00),
    (0x00, 0x9e, 0x73),
    (0xcc, 0x79, 0xa7),
    (0xe6, 0x9f, 0x00),
    (0x56, 0xb4, 0xe9),
    (0x99, 0x99, 0x99),
];

/// A family of colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColorMap {
    /// Dark blue through green to yellow: for values of one sign.
    Viridis,
    /// Blue through white to red: for values on both sides of zero.
    Diverging,
    /// White to red: for values from zero up, behind text.
    Reds,
}

impl ColorMap {
    /// The colour map that a script names.
    ///
    /// # Errors
    /// An unknown name, with the known ones as a hint.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "viridis" => Ok(Self::Viridis),
            "diverging" => Ok(Self::Diverging),
            "reds" => Ok(Self::Reds),
            _ => Err(Error::new(format!("unknown color map `{}`", name.escape_debug()))
                .hint("one of viridis, diverging, reds")),
        }
    }
}

/// A colour map laid over a range of values; values outside the range take the colour of its nearer end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ColorScale {
    map: ColorMap,
    min: f64,
    max: f64,
}

impl ColorScale {
    /// The scale for finite `values`. Without a `map`, values of both signs get the diverging one, others viridis.
    /// Without a `range`, viridis and reds span the values and diverging is symmetric around zero.
    ///
    /// # Errors
    /// A range that is empty, reversed or not finite.
    pub fn fit(values: &[f64], map: Option<ColorMap>, range: Option<(f64, f64)>) -> Result<Self> {
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let greatest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let both_signs = least < 0.0 && greatest > 0.0;
        let map = map.unwrap_or(if both_signs { ColorMap::Diverging } else { ColorMap::Viridis });
        if let Some((min, max)) = range {
            if !(min.is_finite() && max.is_finite() && min < max) {
                return Err(Error::new(format!("range [{}, {}] is not a range of colors", short(min), short(max)))
                    .hint("the first number must be less than the second"));
            }
            return Ok(Self { map, min, max });
        }
        let (min, max) = match map {
            ColorMap::Viridis | ColorMap::Reds => (least, greatest),
            ColorMap::Diverging => {
                let most = least.abs().max(greatest.abs());
                (-most, most)
            }
        };
        // Equal values still need a range around them.
        let margin = if min < max { 0.0 } else { min.abs().max(1.0) * 0.5 };
        Ok(Self { map, min: min - margin, max: max + margin })
    }

    /// The value at the low end.
    pub fn min(&self) -> f64 {
        self.min
    }

    /// The value at the high end.
    pub fn max(&self) -> f64 {
        self.max
    }

    /// Where `value` lies between the ends, 0 to 1. The middle of a diverging scale is zero if zero is in range.
    pub fn fraction(&self, value: f64) -> f64 {
        let between = |low: f64, high: f64| ((value - low) / (high - low)).clamp(0.0, 1.0);
        match self.map {
            ColorMap::Diverging if self.min < 0.0 && self.max > 0.0 => {
                0.5 * between(self.min, 0.0) + 0.5 * between(0.0, self.max)
            }
            _ => between(self.min, self.max),
        }
    }

    /// The value at a fraction: the inverse of `fraction`.
    pub fn value(&self, fraction: f64) -> f64 {
        match self.map {
            ColorMap::Diverging if self.min < 0.0 && self.max > 0.0 => {
                if fraction < 0.5 {
                    self.min * (1.0 - 2.0 * fraction)
                } else {
                    self.max * (2.0 * fraction - 1.0)
                }
            }
            _ => self.min + (self.max - self.min) * fraction,
        }
    }

    /// The colour of `value`.
    pub fn rgb(&self, value: f64) -> Rgb {
        let fraction = self.fraction(value);
        match self.map {
            ColorMap::Viridis => Gradient::Viridis.map_rgb(fraction),
            ColorMap::Diverging => Gradient::RedBlue.map_rgb(1.0 - fraction),
            ColorMap::Reds => Gradient::RedBlue.map_rgb(0.5 - fraction / 2.0),
        }
        .unwrap_or_default()
    }

    /// Round values along the scale, for its legend.
    pub fn ticks(&self) -> Vec<f64> {
        kuva::render::render_utils::generate_ticks(self.min, self.max, 5)
            .into_iter()
            .filter(|tick| (self.min..=self.max).contains(tick))
            .take(12)
            .collect()
    }
}

/// The colour of each series; the colours repeat after the last.
pub fn series_colors() -> impl Iterator<Item = Rgb> {
    SERIES.iter().copied().cycle()
}

/// Whether black text has more contrast than white on `color`, by the relative luminance of WCAG 2.
pub fn is_light((red, green, blue): Rgb) -> bool {
    let linear = |channel: u8| {
        let share = f64::from(channel) / 255.0;
        if share <= 0.040_45 { share / 12.92 } else { ((share + 0.055) / 1.055).powf(2.4) }
    };
    let luminance = 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue);
    (luminance + 0.05).powi(2) > 1.05 * 0.05
}

#[cfg(test)]
mod tests {
    use super::{ColorMap, ColorScale};

    #[test]
    fn both_signs_are_centred_on_zero() -> crate::error::Result<()> {
        let scale = ColorScale::fit(&[-0.25, 1.0], None, None)?;
        assert_eq!((scale.map, scale.min, scale.max), (ColorMap::Diverging, -1.0, 1.0));
        let (red, green, blue) = scale.rgb(0.0);
        assert!(red > 235 && green > 235 && blue > 235, "zero is white");
        let (red, _, blue) = scale.rgb(1.0);
        assert!(red > blue, "positive is red");
        Ok(())
    }

    #[test]
    fn an_uneven_range_keeps_zero_in_the_middle() -> crate::error::Result<()> {
        let scale = ColorScale::fit(&[1.0], Some(ColorMap::Diverging), Some((-1.0, 3.0)))?;
        for (value, fraction) in [(-1.0, 0.0), (-0.5, 0.25), (0.0, 0.5), (1.5, 0.75), (3.0, 1.0), (9.0, 1.0)] {
            assert!((scale.fraction(value) - fraction).abs() < 1e-12, "{value}");
        }
        assert!((scale.value(0.25) + 0.5).abs() < 1e-12);
        Ok(())
    }

    #[test]
    fn equal_values_get_a_range() -> crate::error::Result<()> {
        let scale = ColorScale::fit(&[2.0, 2.0], None, None)?;
        assert_eq!((scale.map, scale.min, scale.max), (ColorMap::Viridis, 1.0, 3.0));
        assert!(ColorScale::fit(&[0.0], Some(ColorMap::Diverging), None)?.max() > 0.0);
        Ok(())
    }
}
