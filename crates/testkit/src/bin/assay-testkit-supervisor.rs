//! Ends a server when the process that wanted it is gone; see [`assay_testkit::supervisor`].

fn main() -> std::process::ExitCode {
    assay_testkit::supervisor::supervisor_main(std::env::args_os().skip(1))
}
