//! Writes scenes as SVG, PDF and PNG.

use std::io::Cursor;

use kuva::backend::pdf::{PageSize, PdfBackend};
use kuva::backend::raster::RasterBackend;
use kuva::backend::svg::SvgBackend;
use kuva::render::render::Scene;

use crate::error::{Error, Result};
use crate::worker::{self, Bounds};

/// The stack for drawing: the library may recurse into what it draws.
const STACK_BYTES: usize = 64 << 20;

/// Units of the drawing per inch on paper, as in SVG.
const UNITS_PER_INCH: f64 = 96.0;
/// Pixels of a PNG per unit of the drawing, for screens and print alike.
const RESOLUTION: f32 = 2.0;
/// Scenes with a longer side than this are not oversampled, to save memory; those twice as long have single resolution.
const LARGE: f64 = 1100.0;
/// Pixels drawn per pixel of the result, in each direction: the library draws upright text jagged.
const OVERSAMPLING: usize = 2;

/// A file format that figures can be saved in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Vector graphics for screens.
    Svg,
    /// Vector graphics for print: one page of the figure's size, its fonts embedded.
    Pdf,
    /// Pixels.
    Png,
}

/// The file that shows the scene.
///
/// # Errors
/// A scene that the drawing library fails on; Ctrl-C.
pub fn render(format: Format, scene: impl FnOnce() -> Scene + Send + 'static) -> Result<Vec<u8>> {
    draw(move || {
        let scene = scene();
        let longer_side = scene.width.max(scene.height);
        match format {
            Format::Svg => Ok(scalable(&SvgBackend::new().with_pretty(true).render_scene(&scene), &scene).into_bytes()),
            Format::Pdf => page(&scene),
            Format::Png if longer_side > 2.0 * LARGE => raster(&scene, 1.0),
            Format::Png if longer_side > LARGE => raster(&scene, RESOLUTION),
            Format::Png => smoothed(&raster(&scene, RESOLUTION * OVERSAMPLING as f32)?)
                .map_err(|error| Error::new(format!("the figure could not be encoded: {error}"))),
        }
    })
}

/// The drawing with a view box, so that a page narrower than the figure scales it instead of cropping it.
fn scalable(svg: &str, scene: &Scene) -> String {
    svg.replacen("<svg ", &format!("<svg viewBox=\"0 0 {} {}\" ", scene.width, scene.height), 1)
}

/// A PDF of one page as large as the figure.
fn page(scene: &Scene) -> Result<Vec<u8>> {
    let size = PageSize::inches(scene.width / UNITS_PER_INCH, scene.height / UNITS_PER_INCH);
    PdfBackend::new().with_page_size(size).render_scene(scene).map_err(Error::new)
}

fn raster(scene: &Scene, scale: f32) -> Result<Vec<u8>> {
    RasterBackend::new().with_scale(scale).render_scene(scene).map_err(Error::new)
}

/// The PNG with every square of `OVERSAMPLING` × `OVERSAMPLING` pixels averaged into one.
fn smoothed(png: &[u8]) -> std::result::Result<Vec<u8>, Box<dyn std::error::Error>> {
    let mut reader = png::Decoder::new(Cursor::new(png)).read_info()?;
    let mut fine = vec![0; reader.output_buffer_size().ok_or("too large")?];
    let info = reader.next_frame(&mut fine)?;
    let channels = info.color_type.samples();
    let (width, height) = (info.width as usize / OVERSAMPLING, info.height as usize / OVERSAMPLING);
    let mut pixels = Vec::with_capacity(width * height * channels);
    for rows in fine.chunks_exact(info.line_size * OVERSAMPLING) {
        for column in 0..width {
            for channel in 0..channels {
                let across = (0..OVERSAMPLING).map(|step| (column * OVERSAMPLING + step) * channels + channel);
                let samples = across.flat_map(|offset| rows.iter().skip(offset).step_by(info.line_size));
                let sum: usize = samples.map(|sample| usize::from(*sample)).sum();
                pixels.push(u8::try_from(sum / (OVERSAMPLING * OVERSAMPLING))?);
            }
        }
    }
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, u32::try_from(width)?, u32::try_from(height)?);
    encoder.set_color(info.color_type);
    encoder.set_depth(info.bit_depth);
    let density = (UNITS_PER_INCH * f64::from(RESOLUTION) / 0.0254) as u32;
    encoder.set_pixel_dims(Some(png::PixelDimensions { xppu: density, yppu: density, unit: png::Unit::Meter }));
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&pixels)?;
    writer.finish()?;
    Ok(file)
}

/// Runs code of the drawing library, which Ctrl-C leaves behind.
///
/// # Errors
/// An error of `work`, or a panic in it; Ctrl-C.
pub fn draw<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    worker::run(Bounds::stack(STACK_BYTES), work).map_err(|error| error.context("the figure could not be drawn"))?
}
