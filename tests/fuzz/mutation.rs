//! Changes valid inputs into mostly invalid ones.

use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Longer inputs are cut, so that each stays fast.
const LONGEST: usize = 1 << 16;

/// Numbers that parsers get wrong.
const NUMBERS: &[&str] = &[
    "0",
    "-0",
    "-1",
    "1",
    "2",
    "127",
    "128",
    "255",
    "256",
    "32768",
    "65536",
    "2147483647",
    "2147483648",
    "-2147483649",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "100000000000",
    "1e5",
    "1e-400",
    "1e400",
    "-1e400",
    "0.1",
    "1e308",
    "3.4028236e38",
    "NaN",
    "inf",
    "00",
    "1_000",
    "0x7f",
    "123456789012345678901234567890123456789012345678901234567890",
];

/// Texts that programs measure, cut, compare or print wrongly.
const TEXTS: &[&str] = &[
    "\0",
    "\t",
    "\r",
    "\r\n",
    "\n",
    " ",
    "\u{7f}",
    "\u{85}",
    "\u{a0}",
    "\u{2003}",
    "\u{2028}",
    "\u{200b}",
    "\u{200d}",
    "\u{feff}",
    "\u{202e}",
    "e\u{301}",
    "ß",
    "İ",
    "漢字",
    "🙂",
    "👩\u{200d}👩\u{200d}👧",
    "\u{fffd}",
    "\u{10ffff}",
    "\\",
    "\"",
    "'",
    "`",
    "\\u0000",
    "\\ud800",
    "\\x",
    "\\\"",
    "${",
    "%",
    "~",
    "/",
    "../",
    "//",
];

/// Sizes and counts in binary files.
const SIZES: &[u64] = &[
    0,
    1,
    2,
    7,
    8,
    31,
    32,
    127,
    128,
    255,
    256,
    65_535,
    65_536,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    1 << 32,
    1 << 40,
    1 << 62,
    (1 << 63) - 1,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
];

const BRACKETS: &[(&str, &str)] = &[("[", "]"), ("{", "}"), ("(", ")"), ("{\"a\":", "}"), ("#{a:", "}"), ("[[", "]]")];

/// Valid inputs of a format, and the words that it consists of.
pub struct Mutator {
    seeds: Vec<Vec<u8>>,
    words: Vec<Vec<u8>>,
}

impl Mutator {
    /// Changes `seeds` with the help of `words`.
    pub fn new(seeds: Vec<Vec<u8>>, words: &[&str]) -> Self {
        assert!(!seeds.is_empty(), "there are seeds");
        Self { seeds, words: words.iter().chain(NUMBERS).chain(TEXTS).map(|word| word.as_bytes().to_vec()).collect() }
    }

    /// An input: a seed after one or more changes.
    pub fn input(&self, random: &mut ChaCha8Rng) -> Vec<u8> {
        let mut bytes = self.seed(random).to_vec();
        // One change in half of the inputs, seldom many.
        while {
            self.change(&mut bytes, random);
            random.gen_bool(0.5)
        } {}
        bytes.truncate(LONGEST);
        bytes
    }

    /// A seed with some bytes replaced by others: in a binary file, everything stays in its place.
    pub fn in_place(&self, random: &mut ChaCha8Rng) -> Vec<u8> {
        let mut bytes = self.seed(random).to_vec();
        while {
            let place = place(&bytes, random);
            match random.gen_range(0..4) {
                0 => flip(&mut bytes, place, random),
                1 => replace(&mut bytes, place, random),
                _ => overwrite(&mut bytes, place, random),
            }
            random.gen_bool(0.5)
        } {}
        bytes
    }

    /// The same as [`Self::input`], as text.
    pub fn text(&self, random: &mut ChaCha8Rng) -> String {
        String::from_utf8_lossy(&self.input(random)).into_owned()
    }

    fn seed(&self, random: &mut ChaCha8Rng) -> &[u8] {
        &self.seeds[random.gen_range(0..self.seeds.len())]
    }

    fn change(&self, bytes: &mut Vec<u8>, random: &mut ChaCha8Rng) {
        let place = place(bytes, random);
        let range = range(bytes, random);
        let part = bytes[range.clone()].to_vec();
        let word = self.words.choose(random).cloned().unwrap_or_default();
        match random.gen_range(0..17) {
            0 => flip(bytes, place, random),
            1 => replace(bytes, place, random),
            2 => overwrite(bytes, place, random),
            3 => bytes.truncate(place),
            4 => drop(bytes.drain(range)),
            5 => insert(bytes, place, &part),
            6 => insert(bytes, place, &part.repeat(random.gen_range(2..200))),
            7 => {
                bytes.drain(range);
                let place = place.min(bytes.len());
                insert(bytes, place, &part);
            }
            8 | 9 => insert(bytes, place, &word),
            10 | 11 => {
                let token = token(bytes, place);
                bytes.splice(token, word);
            }
            12 => {
                let token = token(bytes, place);
                bytes.splice(token, NUMBERS[random.gen_range(0..NUMBERS.len())].bytes());
            }
            13 => {
                let other = self.seed(random);
                let from = self::place(other, random);
                bytes.truncate(place);
                bytes.extend_from_slice(&other[from..]);
            }
            14 => {
                let other = self.seed(random);
                insert(bytes, place, &other[self::range(other, random)]);
            }
            15 => move_lines(bytes, random),
            _ => nest(bytes, place, random),
        }
        // Enough for a nest of any depth; longer inputs only take time.
        bytes.truncate(2 * LONGEST);
    }
}

/// A place in or behind the bytes; often near their start, where headers are.
fn place(bytes: &[u8], random: &mut ChaCha8Rng) -> usize {
    let near = if random.gen_bool(0.25) { bytes.len().min(256) } else { bytes.len() };
    random.gen_range(0..=near)
}

/// A range, mostly short.
fn range(bytes: &[u8], random: &mut ChaCha8Rng) -> std::ops::Range<usize> {
    let start = random.gen_range(0..=bytes.len());
    let longest = if random.gen_bool(0.8) { 16.min(bytes.len() - start) } else { bytes.len() - start };
    start..start + random.gen_range(0..=longest)
}

fn flip(bytes: &mut [u8], place: usize, random: &mut ChaCha8Rng) {
    bytes.iter_mut().skip(place).take(1).for_each(|byte| *byte ^= 1 << random.gen_range(0..8));
}

fn replace(bytes: &mut [u8], place: usize, random: &mut ChaCha8Rng) {
    bytes.iter_mut().skip(place).take(1).for_each(|byte| *byte = random.r#gen());
}

fn insert(bytes: &mut Vec<u8>, place: usize, part: &[u8]) {
    bytes.splice(place..place, part.iter().copied());
}

/// Puts a number of 1 to 8 bytes over what was there.
fn overwrite(bytes: &mut [u8], place: usize, random: &mut ChaCha8Rng) {
    let number = match SIZES.choose(random) {
        Some(number) if random.gen_bool(0.8) => number.wrapping_add(random.gen_range(0..3)).wrapping_sub(1),
        _ => u64::try_from(bytes.len()).unwrap_or_default(),
    };
    let width = 1 << random.gen_range(0..4);
    for (byte, new) in bytes.iter_mut().skip(place).zip(number.to_le_bytes()).take(width) {
        *byte = new;
    }
}

/// The word, number or single sign at a place.
fn token(bytes: &[u8], place: usize) -> std::ops::Range<usize> {
    let in_word = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'_' || **byte >= 0x80;
    let before = bytes[..place].iter().rev().take_while(in_word).count();
    let behind = bytes[place..].iter().take_while(in_word).count();
    let end = if before + behind == 0 { (place + 1).min(bytes.len()) } else { place + behind };
    place - before..end
}

/// Drops, doubles or swaps lines.
fn move_lines(bytes: &mut Vec<u8>, random: &mut ChaCha8Rng) {
    let mut lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    if lines.is_empty() {
        return;
    }
    let (one, other) = (random.gen_range(0..lines.len()), random.gen_range(0..lines.len()));
    match random.gen_range(0..3) {
        0 => drop(lines.remove(one)),
        1 => lines.insert(other, lines[one]),
        _ => lines.swap(one, other),
    }
    *bytes = lines.concat();
}

/// Puts brackets around the rest, or opens them only, from once to thousands of times.
fn nest(bytes: &mut Vec<u8>, place: usize, random: &mut ChaCha8Rng) {
    let (open, close) = BRACKETS[random.gen_range(0..BRACKETS.len())];
    let depth = 1 << random.gen_range(0..14);
    if random.gen_bool(0.7) {
        let end = random.gen_range(place..=bytes.len());
        insert(bytes, end, close.repeat(depth).as_bytes());
    }
    insert(bytes, place, open.repeat(depth).as_bytes());
}
