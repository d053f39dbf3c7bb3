//! The paths of control sockets: this process' own, and that of the process before.

use std::path::PathBuf;

use super::{
    BadValues, args,
    checker::Checker,
    listen::{UNIX_PATH_BYTES_MAX, is_socket_path},
};
use crate::upgrade_client::AskUpgrade;

const CONTROL_SOCKET: &str = "control-socket";
const TAKE_OVER: &str = "take-over";

/// The paths of a server. They may be the same: the new process then listens where the old one did.
pub(super) struct ControlPaths {
    pub(super) control_socket: Option<PathBuf>,
    pub(super) take_over: Option<PathBuf>,
}

/// Checks both; `listen_unix` are the paths of public listeners.
pub(super) fn check(
    checker: &mut Checker,
    typed: &args::UpgradeOptions,
    listen_unix: &[PathBuf],
) -> ControlPaths {
    let paths = ControlPaths {
        control_socket: path(checker, CONTROL_SOCKET, typed.control_socket.as_deref()),
        take_over: path(checker, TAKE_OVER, typed.take_over.as_deref()),
    };
    let named = [(CONTROL_SOCKET, &paths.control_socket), (TAKE_OVER, &paths.take_over)];
    for (option, path) in
        named.into_iter().filter_map(|(option, path)| Some((option, path.as_ref()?)))
    {
        if listen_unix.contains(path) {
            checker.refuse(option, path.display(), "is a public listener, by --listen");
        }
    }
    paths
}

/// Checks the command's argument.
pub(super) fn to_ask(
    checker: &mut Checker,
    typed: &args::AskUpgradeOptions,
) -> Result<AskUpgrade, BadValues> {
    let control_socket = path(checker, CONTROL_SOCKET, typed.control_socket.as_deref());
    if control_socket.is_none() && checker.are_good(&[CONTROL_SOCKET]) {
        checker.refuse(CONTROL_SOCKET, "", "expected the control socket of the server");
    }
    checker.finish()?;
    Ok(AskUpgrade { control_socket: control_socket.unwrap_or_default() })
}

fn path(checker: &mut Checker, option: &str, typed: Option<&str>) -> Option<PathBuf> {
    let text = typed?;
    if !cfg!(target_os = "linux") {
        checker.refuse(option, text, "an upgrade in place needs Linux");
    } else if is_socket_path(text) {
        return Some(text.into());
    } else {
        let expected = format!("expected the path of a file, at most {UNIX_PATH_BYTES_MAX} bytes");
        checker.refuse(option, text, expected);
    }
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::config::{BadValue, Config, Invocation, Stop, parse};

    fn parsed(line: &[&str], variables: &[(&str, &str)]) -> Result<Invocation, Vec<BadValue>> {
        let line = ["wsbcast"].iter().chain(line).map(Into::into);
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
        parse(line, variables).map_err(|stop| match stop {
            Stop::BadValues(BadValues(bad)) => bad,
            Stop::CommandLine(error) => panic!("{error}"),
        })
    }

    fn config(line: &[&str], variables: &[(&str, &str)]) -> Config {
        match parsed(line, variables).expect("they are good") {
            Invocation::Serve(config) => *config,
            other => panic!("{other:?}"),
        }
    }

    /// Paths may be absolute or not, and the same; each works without the other.
    #[test]
    fn paths_of_control_sockets_are_options() {
        let paths = |config: Config| (config.control_socket, config.take_over);
        assert_eq!(paths(config(&[], &[])), (None, None));
        let path = |path: &str| Some(PathBuf::from(path));
        let line = ["--control-socket", "run/control", "--take-over=run/control"];
        assert_eq!(paths(config(&line, &[])), (path("run/control"), path("run/control")));
        assert_eq!(paths(config(&["--take-over", "/a"], &[])), (None, path("/a")));
        let variables = [("WSBCAST_CONTROL_SOCKET", "/a"), ("WSBCAST_TAKE_OVER", "")];
        assert_eq!(paths(config(&[], &variables)), (path("/a"), None));
        let variables = [("WSBCAST_TAKE_OVER", "/b")];
        assert_eq!(paths(config(&["--take-over=/c"], &variables)), (None, path("/c")));
    }

    /// Paths that no socket can have, or a public listener has, are refused, each by its name.
    #[test]
    fn paths_that_no_control_socket_can_have_are_told() {
        let long = format!("/{}", "x".repeat(UNIX_PATH_BYTES_MAX));
        assert!(parsed(&["--control-socket", &long[..UNIX_PATH_BYTES_MAX]], &[]).is_ok());
        for bad in [&long, "", "/folder/"] {
            for option in [CONTROL_SOCKET, TAKE_OVER] {
                let told = parsed(&[&format!("--{option}={bad}")], &[]).unwrap_err();
                assert_eq!((told.len(), &*told[0].option, &*told[0].value), (1, option, bad));
                assert!(told[0].reason.contains("at most 107 bytes"), "{}", told[0].reason);
            }
        }
        let line =
            ["--listen=unix:/a", "--listen=unix:/b", "--control-socket=/b", "--take-over=/a"];
        let told = parsed(&line, &[]).unwrap_err();
        let options: Vec<_> = told.iter().map(|bad| bad.option.as_str()).collect();
        assert_eq!(options, [CONTROL_SOCKET, TAKE_OVER]);
    }

    /// The command needs the socket, from the line or from the server's own variable.
    #[test]
    fn the_process_to_be_replaced_is_named() {
        let asked = |line: &[&str], variables: &[(&str, &str)]| match parsed(line, variables) {
            Ok(Invocation::Upgrade(AskUpgrade { control_socket })) => Ok(control_socket),
            Ok(other) => panic!("{other:?}"),
            Err(bad) => Err(bad[0].option.clone()),
        };
        assert_eq!(asked(&["upgrade", "--control-socket=/a"], &[]), Ok("/a".into()));
        let variables = [("WSBCAST_CONTROL_SOCKET", "/b")];
        assert_eq!(asked(&["upgrade"], &variables), Ok("/b".into()));
        assert_eq!(asked(&["upgrade"], &[]), Err(CONTROL_SOCKET.to_owned()));
        assert_eq!(
            asked(&["upgrade", "--control-socket=/a/"], &[]),
            Err(CONTROL_SOCKET.to_owned())
        );
    }
}
