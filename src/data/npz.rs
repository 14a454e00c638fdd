//! Named tensors in a NumPy archive: a zip file of `.npy` files, as `numpy.savez` writes it.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::path::Path;

use py_literal::Value;
use tch::Kind;
use zip::ZipArchive;
use zip::read::ZipFile;

use crate::error::{Error, Result};
use crate::tensor::Tensor;
use crate::{file, interrupt, limits};

/// The first bytes of a `.npy` file.
const MAGIC: &[u8] = b"\x93NUMPY";
/// NumPy does not read longer headers either.
const LONGEST_HEADER: usize = 10_000;
/// Bytes that are read from one look for Ctrl-C to the next.
const PIECE: u64 = 16 << 20;

/// Reads the tensors of a file, to the CPU.
///
/// # Errors
/// A file that cannot be read or is damaged, an array that tensors cannot hold; the message names the file and the
/// array.
pub fn read(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let map = file::map(path)?;
    read_archive(&map).map_err(|error| error.context(format!("`{}`", path.display())))
}

fn read_archive(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>> {
    let broken = |error: &dyn std::fmt::Display| {
        Error::new(format!("it is not a complete .npz file: {error}"))
            .hint("the download or copy may have been cut off; fetch it again")
    };
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|error| broken(&error))?;
    let mut tensors = BTreeMap::new();
    for index in 0..archive.len() {
        let entry = archive.by_index(index).map_err(|error| broken(&error))?;
        let name = entry.name().map_err(|error| broken(&error))?.into_owned();
        let name = name.strip_suffix(".npy").map(str::to_owned).unwrap_or(name);
        let in_array = |error: Error| error.context(format!("array `{name}`"));
        let bytes = unpacked(entry).map_err(in_array)?;
        let tensor = array(&bytes).map_err(in_array)?;
        if tensors.insert(name.clone(), tensor).is_some() {
            return Err(Error::new(format!("the array `{name}` is there twice")));
        }
    }
    Ok(tensors)
}

/// The bytes of one file of an archive, which says how many there are.
fn unpacked<R: Read>(mut entry: ZipFile<'_, R>) -> Result<Vec<u8>> {
    let size = entry.size();
    let length = usize::try_from(size).map_err(|_| Error::new(format!("{size} bytes are too many")))?;
    limits::reserve(length)?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length).map_err(|error| Error::new(format!("{length} bytes: {error}")))?;
    loop {
        interrupt::check()?;
        let left = (size - bytes.len() as u64).min(PIECE);
        let read = (&mut entry).take(left).read_to_end(&mut bytes).map_err(|error| Error::new(error.to_string()))?;
        if read == 0 {
            break;
        }
    }
    // The last read sees the end of the file, where its checksum is compared.
    match (bytes.len() == length, entry.read(&mut [0])) {
        (true, Ok(0)) => Ok(bytes),
        (_, Err(error)) => Err(Error::new(error.to_string())),
        _ => Err(Error::new(format!("it does not have the {length} bytes that the archive names"))),
    }
}

/// The tensor in the bytes of a `.npy` file: the magic word, the version, the length of the header, the header (a
/// Python dict), the data. <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>
fn array(bytes: &[u8]) -> Result<Tensor> {
    let cut_off = || Error::new("it is not a .npy file, or cut off");
    let (version, rest) = bytes.strip_prefix(MAGIC).and_then(<[u8]>::split_first_chunk).ok_or_else(cut_off)?;
    let (length, rest) = match version {
        [1, _] => rest.split_first_chunk().map(|(length, rest)| (u16::from_le_bytes(*length) as usize, rest)),
        _ => rest.split_first_chunk().map(|(length, rest)| (u32::from_le_bytes(*length) as usize, rest)),
    }
    .ok_or_else(cut_off)?;
    if length > LONGEST_HEADER {
        return Err(Error::new(format!("a header of {length} bytes is too long")));
    }
    let (text, data) = rest.split_at_checked(length).ok_or_else(cut_off)?;
    let text = String::from_utf8_lossy(text);
    let not_read = || Error::new(format!("its header is not understood: {}", text.trim()));
    let Ok(Value::Dict(header)) = text.trim().parse() else { return Err(not_read()) };
    let field = |wanted: &str| {
        header.iter().find(|(name, _)| name.as_string().is_some_and(|name| name == wanted)).map(|(_, value)| value)
    };
    let (Some(dtype), Some(Value::Boolean(is_fortran)), Some(Value::Tuple(shape))) =
        (field("descr"), field("fortran_order"), field("shape"))
    else {
        return Err(not_read());
    };
    let kind = kind(dtype).ok_or_else(|| {
        Error::new(format!("dtype {dtype} is not supported"))
            .hint("one of b1, u1, i1, i2, i4, i8, f2, f4, f8, little-endian")
    })?;
    let length = |value: &Value| value.as_integer().and_then(|length| i64::try_from(length).ok());
    let mut shape = shape.iter().map(length).collect::<Option<Vec<_>>>().ok_or_else(not_read)?;
    if !is_fortran {
        return Tensor::from_bytes(data, &shape, kind);
    }
    shape.reverse();
    let dims: Vec<i64> = (0..shape.len() as i64).rev().collect();
    Tensor::from_bytes(data, &shape, kind)?.permute(&dims)
}

/// The element type of an array.
fn kind(dtype: &Value) -> Option<Kind> {
    Some(match dtype.as_string()?.as_str() {
        "|b1" => Kind::Bool,
        "|u1" => Kind::Uint8,
        "|i1" => Kind::Int8,
        "<i2" => Kind::Int16,
        "<i4" => Kind::Int,
        "<i8" => Kind::Int64,
        "<f2" => Kind::Half,
        "<f4" => Kind::Float,
        "<f8" => Kind::Double,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    /// A `.npy` file of version 1.0.
    fn npy(header: &str, data: &[u8]) -> Vec<u8> {
        let length = (header.len() as u16).to_le_bytes();
        [MAGIC, &[1, 0], length.as_slice(), header.as_bytes(), data].concat()
    }

    fn failure(bytes: &[u8]) -> String {
        array(bytes).expect_err("refused").to_string()
    }

    #[test]
    fn what_is_not_an_array_is_refused() {
        let header =
            |dtype: &str, shape: &str| format!("{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}}}");
        assert_eq!(array(&npy(&header("'<f4'", "(2,)"), &[0; 8])).expect("read").shape(), [2]);
        for (bytes, part) in [
            (b"PK".to_vec(), "not a .npy file"),
            (npy(&header("'>f4'", "(2,)"), &[0; 8]), ">f4"),
            (npy(&header("'|O'", "(2,)"), &[0; 8]), "|O"),
            (npy(&header("[('a', '<f4')]", "(2,)"), &[0; 8]), "'a'"),
            (npy(&header("'<f4'", "(3,)"), &[0; 8]), "8 bytes"),
            (npy(&header("'<f4'", "(-2,)"), &[0; 8]), "8 bytes"),
            (npy(&header("'<f8'", "(4611686018427387904, 8)"), &[]), "0 bytes"),
            (npy(&header("'<f8'", "(99999999999999999999,)"), &[]), "not understood"),
            (npy("[1, 2]", &[]), "not understood"),
            (npy("{'descr': '<f4'}", &[]), "not understood"),
            (npy(&"(".repeat(9_000), &[]), "not understood"),
            (npy(&" ".repeat(20_000), &[]), "too long"),
        ] {
            let failure = failure(&bytes);
            assert!(failure.contains(part), "{failure}");
        }
    }

    #[test]
    fn an_archive_that_names_another_size_is_refused() {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        writer.start_file("a.npy", SimpleFileOptions::default()).expect("started");
        let data = npy("{'descr': '|u1', 'fortran_order': False, 'shape': (1000,)}", &[7; 1000]);
        writer.write_all(&data).expect("written");
        let bytes = writer.finish().expect("finished").into_inner();
        assert_eq!(read_archive(&bytes).expect("read")["a"].numel(), 1000);
        // The central directory's size of the unpacked file.
        let place = bytes.windows(4).rposition(|window| window == b"PK\x01\x02").expect("a directory") + 24;
        for size in [7_u32, 1_000_000, u32::MAX - 1] {
            let mut changed = bytes.clone();
            changed[place..place + 4].copy_from_slice(&size.to_le_bytes());
            assert!(read_archive(&changed).is_err(), "{size}");
        }
        for cut in 0..bytes.len() {
            assert!(read_archive(&bytes[..cut]).is_err(), "{cut}");
        }
    }
}
