//! The program: hand over to `cli`, return its exit code.

fn main() -> std::process::ExitCode {
    countersign::cli::run()
}
