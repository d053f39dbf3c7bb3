//! The binary as an operator meets it: what it prints where, and how it ends, when its options
//! leave nothing to serve. The options' meaning is tested beside them, without a process.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    process::{Command, Output, Stdio},
    thread,
};

use socket2::{Domain, Socket, Type};

/// Runs it to its end, with these variables and no others.
fn wsbcast(line: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_wsbcast"))
        .args(line)
        .env_clear()
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("what it prints is UTF-8")
}

/// Answers one request with `status`; returns the address and, in the end, the request.
fn answer_once(status: &'static str) -> (String, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut request = Vec::new();
        let mut byte = [0];
        while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
            request.push(byte[0]);
        }
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        stream.write_all(answer.as_bytes()).expect("the answer is taken");
        text(&request)
    });
    (address, server)
}

/// `--version` names version and commit on standard output.
#[test]
fn version_names_version_and_commit() {
    let output = wsbcast(&["--version"], &[]);
    assert_eq!(output.status.code(), Some(0));
    let line = text(&output.stdout);
    let expected = concat!("wsbcast ", env!("CARGO_PKG_VERSION"), " (");
    assert!(line.starts_with(expected) && line.ends_with(")\n"), "{line}");
    assert!(output.stderr.is_empty());
}

#[test]
fn help_is_grouped_and_goes_to_standard_output() {
    let output = wsbcast(&["--help"], &[]);
    assert_eq!(output.status.code(), Some(0));
    let help = text(&output.stdout);
    for heading in ["Listening:", "Redis:", "Limits:", "Shutdown:", "Logs:", "Commands:"] {
        assert!(help.lines().any(|line| line == heading), "{heading}\n{help}");
    }
    assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
    assert!(output.stderr.is_empty());
}

/// Bad values from options and from the environment are told together, and the exit code is 2.
#[test]
fn bad_values_are_told_together() {
    let variables = [
        ("WSBCAST_BACKLOG", "1MiB"),
        ("WSBCAST_MAX_BROADCAST_SIZE", "1MiB"),
        ("WSBCAST_ECHO", "perhaps"),
        ("WSBCAST_API_TOKEN", "not a s3cret"),
        ("WSBCAST_SERVICE_PORT", "tcp://10.0.0.1:8000"),
    ];
    let output = wsbcast(&["--threads", "0", "--drain-timeout=soon"], &variables);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    let told = text(&output.stderr);
    for part in [
        "5 bad values",
        "--threads \"0\": expected a whole number from 1 to 1024",
        "--drain-timeout \"soon\": expected a duration",
        "--backlog \"1MiB\" (from WSBCAST_BACKLOG): must be at least 2MiB",
        "--echo \"perhaps\" (from WSBCAST_ECHO): expected true or false",
        "--api-token \"(hidden)\" (from WSBCAST_API_TOKEN): ",
    ] {
        assert!(told.contains(part), "{part}\n{told}");
    }
    assert!(!told.contains("s3cret"));
}

#[test]
fn an_unknown_option_ends_with_2_and_is_named() {
    let output = wsbcast(&["--drain-timout=10s"], &[]);
    assert_eq!(output.status.code(), Some(2));
    let told = text(&output.stderr);
    assert!(told.contains("--drain-timout") && told.contains("--drain-timeout"), "{told}");
}

#[test]
fn health_ends_with_0_where_livez_answers_200() {
    let (address, server) = answer_once("200 OK");
    let output = wsbcast(&["health", &format!("http://{address}")], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let request = server.join().expect("the server ran");
    assert!(request.starts_with("GET /livez HTTP/1.1\r\n"), "{request}");
    assert!(request.to_ascii_lowercase().contains(&format!("\r\nhost: {address}\r\n")));
}

/// `wsbcast health` ends with 1 where `/livez` is red or nobody listens.
#[test]
fn health_ends_with_1_where_livez_is_red() {
    let (address, server) = answer_once("503 Service Unavailable");
    let output = wsbcast(&["health", &format!("http://{address}")], &[]);
    assert_eq!(output.status.code(), Some(1));
    server.join().expect("the server ran");
    // Bound, so that nobody else gets the port, but not listening.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any_port: SocketAddr = ([127, 0, 0, 1], 0).into();
    socket.bind(&any_port.into()).expect("a free port");
    let address = socket.local_addr().ok().and_then(|address| address.as_socket());
    let address = address.expect("bound");
    let output = wsbcast(&["health", &format!("http://{address}")], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty() && !output.stderr.is_empty());
}

/// `wsbcast health` follows the environment of the server beside it.
#[test]
fn health_follows_the_servers_environment() {
    for (name, other) in [
        ("WSBCAST_ADMIN_LISTEN", ("WSBCAST_LISTEN", "127.0.0.1:1")),
        ("WSBCAST_LISTEN", ("A", "b")),
    ] {
        let (address, server) = answer_once("200 OK");
        let output = wsbcast(&["health"], &[(name, &address), other]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert!(server.join().expect("the server ran").starts_with("GET /livez "));
    }
}

#[test]
fn health_with_a_url_that_is_none_ends_with_2() {
    let output = wsbcast(&["health", "ftp://host"], &[]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.contains("\n  URL \"ftp://host\": expected http://HOST:PORT"), "{said}");
}

const SECRET: (&str, &str) = ("WSBCAST_JWT_SECRET", "0123456789abcdef0123456789abcdef");

/// A token that `wsbcast token create` prints.
fn token(line: &[&str]) -> String {
    let output = wsbcast(&[&["token", "create"], line].concat(), &[SECRET]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(output.stderr.is_empty());
    let line = text(&output.stdout);
    line.strip_suffix('\n').expect("a line").to_owned()
}

/// A token that was made to try with is what the server's own options take for good.
#[test]
fn a_created_token_is_checked_and_good() {
    let token = token(&["--sub=user:7", "--subscribe=news.*", "--subscribe", "b", "--publish=b"]);
    let output = wsbcast(&["token", "check", &token], &[SECRET]);
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{told}{}", text(&output.stderr));
    for line in ["may listen to: news.* b", "may publish to: b", "sub: \"user:7\""] {
        assert!(told.lines().any(|one| one == line), "{line}\n{told}");
    }
    assert!(told.lines().last().is_some_and(|last| last.starts_with("good: ")), "{told}");
    assert!(!told.contains(SECRET.1) && !told.contains(&token));
}

/// A bad token, and one that can't be verified, end with 1 and a reason on standard output.
#[test]
fn a_bad_token_is_checked_and_told_why() {
    let token = token(&["--expires-in=1h"]);
    for (line, variables, word) in [
        (&["token", "check", &token][..], &[][..], "signature: not verified"),
        (
            &["token", "check", &token],
            &[("WSBCAST_JWT_SECRET", "another-one-of-32-bytes-or-more")],
            "error: 1 bad value",
        ),
        (&["token", "check", &token, "--jwt-audience=me"], &[SECRET], "aud is missing"),
        (&["token", "check", "a.b.c"], &[SECRET], "refused: the token has no header"),
    ] {
        let output = wsbcast(line, variables);
        let told = text(&output.stdout) + &text(&output.stderr);
        let code = if word.starts_with("error") { 2 } else { 1 };
        assert_eq!(output.status.code(), Some(code), "{told}");
        assert!(told.contains(word), "{word}: {told}");
    }
}

/// A token from standard input does not stand in the list of processes.
#[test]
fn a_token_may_come_from_standard_input() {
    let token = token(&["--publish=*"]);
    let mut check = Command::new(env!("CARGO_BIN_EXE_wsbcast"))
        .args(["token", "check", "-"])
        .env_clear()
        .envs([SECRET])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut input = check.stdin.take().expect("piped");
    writeln!(input, "{token}").expect("the token is read");
    drop(input);
    let output = check.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).contains("may publish to: *\n"));
}

#[test]
fn a_token_without_secret_is_not_created() {
    for (line, option) in [
        (&["token", "create"][..], "--jwt-secret-file"),
        (&["token", "create", "--expires-in=0s"], "--expires-in"),
        (&["token", "create", "--publish=a b"], "--publish"),
    ] {
        let variables = if line.len() == 2 { vec![] } else { vec![SECRET] };
        let output = wsbcast(line, &variables);
        assert_eq!(output.status.code(), Some(2));
        assert!(output.stdout.is_empty());
        let told = text(&output.stderr);
        assert!(told.contains(option) && !told.contains(SECRET.1), "{told}");
    }
}

#[test]
fn the_token_commands_have_help() {
    for (line, words) in [
        (&["token", "--help"][..], &["check", "create"][..]),
        (&["token", "check", "--help"], &["--jwt-secret-file", "TOKEN"]),
        (&["token", "create", "--help"], &["--subscribe", "--expires-in", "[default: 1h]"]),
    ] {
        let output = wsbcast(line, &[]);
        assert_eq!(output.status.code(), Some(0));
        let help = text(&output.stdout);
        assert!(words.iter().all(|word| help.contains(word)), "{help}");
        assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
    }
}
