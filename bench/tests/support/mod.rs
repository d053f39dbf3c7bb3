//! What the tests of commands that start servers share.

use std::{path::Path, process::Command};

/// A subcommand of `wsload` that starts servers: those of this workspace, up to date.
pub(crate) fn with_server(subcommand: &str) -> Command {
    let wsload = Path::new(env!("CARGO_BIN_EXE_wsload"));
    let target = wsload.parent().unwrap().parent().unwrap();
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--bin", "wsbcast", "--manifest-path"])
        .arg(manifest)
        .arg("--target-dir")
        .arg(target)
        .status();
    assert!(built.unwrap().success());
    let mut command = Command::new(wsload);
    command.arg(subcommand).arg("--server-binary").arg(target.join("debug/wsbcast"));
    command
}
