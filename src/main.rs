//! The `lancet` program: everything is in the library.

/// What the loader calls before it starts the libraries.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[used]
// SAFETY: the section holds functions of this type.
#[unsafe(link_section = ".preinit_array")]
static BEFORE_LIBRARIES: lancet::threads::AtStart = lancet::threads::start_again;

fn main() -> std::process::ExitCode {
    lancet::cli::main()
}
