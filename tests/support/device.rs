//! The device that the tests of models run on.

/// `LANCET_TEST_DEVICE`, else the CPU.
pub fn device() -> String {
    std::env::var("LANCET_TEST_DEVICE").unwrap_or_else(|_| "cpu".into())
}
