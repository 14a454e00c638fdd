//! The `lancet` program: everything is in the library.

fn main() -> std::process::ExitCode {
    lancet::cli::main()
}
