//! Scenes to files: SVG and PNG from the same drawing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use kuva::backend::raster::RasterBackend;
use kuva::backend::svg::SvgBackend;
use kuva::render::render::Scene;

use crate::error::{Error, Result};

/// The width or height in pixels above which a PNG is not drawn at double resolution.
const LARGE: f64 = 4000.0;

/// A file format that figures can be saved in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Vector graphics.
    Svg,
    /// Pixels.
    Png,
}

impl Format {
    /// The format that a file's extension stands for.
    ///
    /// # Errors
    /// No extension, or an unknown one.
    pub fn of(path: &Path) -> Result<Self> {
        match path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase()).as_deref() {
            Some("svg") => Ok(Self::Svg),
            Some("png") => Ok(Self::Png),
            Some(other) => Err(Error::new(format!("figures cannot be saved as `.{}`", other.escape_debug()))),
            None => Err(Error::new(format!("`{}` has no extension to tell the figure's format", path.display()))),
        }
        .map_err(|error| error.hint("end the name in `.svg` or `.png`"))
    }
}

/// The file that shows the scene.
///
/// # Errors
/// A scene that the drawing library fails on.
pub fn render(format: Format, scene: impl FnOnce() -> Scene) -> Result<Vec<u8>> {
    guarded(|| {
        let scene = scene();
        match format {
            Format::Svg => Ok(SvgBackend::new().with_pretty(true).render_scene(&scene).into_bytes()),
            Format::Png => {
                let scale = if scene.width.max(scene.height) * 2.0 > LARGE { 1.0 } else { 2.0 };
                RasterBackend::new().with_scale(scale).render_scene(&scene).map_err(Error::new)
            }
        }
    })
}

/// Runs code of the drawing library; a panic in there becomes an error.
pub fn guarded<T>(draw: impl FnOnce() -> Result<T>) -> Result<T> {
    // Nothing that the closure can leave half-done outlives it.
    catch_unwind(AssertUnwindSafe(draw)).unwrap_or_else(|_| Err(Error::new("the figure could not be drawn")))
}
