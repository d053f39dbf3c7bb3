//! A service manager is told of the life of the process. A datagram socket stands for systemd.

use crate::support::{
    client::Client,
    eventually,
    http::{get, post},
    server::{Launch, Server},
    service_manager::Manager,
};

const UNREACHABLE: &str = "redis://127.0.0.1:1";

fn launch(manager: &Manager, args: &[&str]) -> Launch {
    Launch::on_a_free_port(args).env("NOTIFY_SOCKET", &manager.address())
}

fn start(manager: &Manager, args: &[&str]) -> Server {
    launch(manager, args).start()
}

/// A start is told as ready, a drain after a signal as the end, with the clients that are left, the
/// time that is left, and the wish for more than the unit allows.
#[test]
fn the_manager_is_told_of_start_and_drain() {
    let manager = Manager::new();
    let mut server = start(&manager, &["--drain-timeout", "20m"]);
    let ready = manager.wait_for(&["READY=1\n", "STATUS=serving 0 clients\n"]);
    let first = Client::connect(server.addr());
    let second = Client::connect(server.addr());
    manager.wait_for(&["STATUS=serving 2 clients\n"]);
    let heard = manager.heard();
    for word in ["STOPPING=1", "WATCHDOG=1"] {
        assert!(!heard.iter().any(|text| text.contains(word)), "{word}: {heard:?}");
    }
    assert!(!heard[ready..].iter().any(|text| text.contains("EXTEND_TIMEOUT")), "{heard:?}");

    server.signal(&["TERM"]);
    let stopping = manager.wait_for(&["STOPPING=1\n", "EXTEND_TIMEOUT_USEC=30000000\n"]);
    let status = manager.wait_for(&["STATUS=draining (waiting): 2 clients left, 11", " s left\n"]);
    first.leave();
    manager.wait_for(&["STATUS=draining (waiting): 1 client left, 11"]);
    assert!(status >= stopping);
    // The unit's own time would be over long before the drain.
    manager.wait_for_after(stopping + 1, &["EXTEND_TIMEOUT_USEC=30000000\n"]);
    second.leave();
    server.assert_exit(0);
    let heard = manager.heard();
    assert_eq!(heard.iter().filter(|text| text.contains("READY=1")).count(), 1, "{heard:?}");
    assert_eq!(heard.iter().filter(|text| text.contains("STOPPING=1")).count(), 1, "{heard:?}");
}

/// A server without clients, too, tells that it stops.
#[test]
fn an_end_at_once_is_told() {
    let manager = Manager::new();
    let mut server = start(&manager, &[]);
    manager.wait_for(&["READY=1"]);
    server.signal(&["TERM"]);
    server.assert_exit(0);
    manager.wait_for(&["STOPPING=1"]);
}

/// A drain that a request begins is told in words only: the manager has not asked for it.
#[test]
fn a_drain_by_request_is_no_stop_of_the_manager() {
    let manager = Manager::new();
    let mut server = start(&manager, &["--admin-listen", "127.0.0.1:0"]);
    let client = Client::connect(server.addr());
    manager.wait_for(&["STATUS=serving 1 client\n"]);
    let begun = manager.heard().len();
    post(server.admin(), "/admin/drain", "").assert_status(202);
    manager.wait_for(&["STATUS=draining (waiting): 1 client left, "]);
    for text in &manager.heard()[begun..] {
        assert!(!text.contains("STOPPING") && !text.contains("EXTEND"), "{text}");
    }
    server.signal(&["TERM"]);
    manager.wait_for_after(begun, &["STOPPING=1\n", "EXTEND_TIMEOUT_USEC="]);
    client.leave();
    server.assert_exit(0);
}

/// A start that waits for Redis is not ready, is given time, and may be stopped.
#[test]
fn a_start_without_redis_is_given_time() {
    let manager = Manager::new();
    let mut server = start(&manager, &["--redis-url", UNREACHABLE]);
    let first = manager.wait_for(&["EXTEND_TIMEOUT_USEC=30000000\n"]);
    manager.wait_for(&["STATUS=starting: 0 clients; waiting for Redis\n"]);
    manager.wait_for_after(first + 1, &["EXTEND_TIMEOUT_USEC=30000000\n"]);
    server.signal(&["TERM"]);
    server.assert_exit(0);
    manager.wait_for(&["STOPPING=1"]);
    assert!(!manager.heard().iter().any(|text| text.contains("READY=1")));
}

/// A reload is told with its beginning, in time for `Type=notify-reload`, and its end.
#[test]
fn a_reload_is_told_with_its_end() {
    let manager = Manager::new();
    let server = start(&manager, &[]);
    let ready = manager.wait_for(&["READY=1\n"]);
    server.signal(&["HUP"]);
    let begun = manager.wait_for(&["RELOADING=1\nMONOTONIC_USEC="]);
    let ended = manager.wait_for_after(begun + 1, &["READY=1\n"]);
    assert!(ready < begun && begun < ended);
}

/// A manager that is not there, or hears nothing, costs one warning and nothing else.
#[test]
fn a_manager_that_hears_nothing_costs_one_warning() {
    let deaf = Manager::new();
    // Filled before the server is there.
    let filler = std::os::unix::net::UnixDatagram::unbound().unwrap();
    filler.set_nonblocking(true).unwrap();
    while filler.send_to(b"X=1", deaf.path()).is_ok() {}
    for address in ["/nonexistent/notify", &deaf.address()] {
        let args = ["--threads", "1", "--log-level", "info"];
        let launch = Launch::on_a_free_port(&args).env("NOTIFY_SOCKET", address);
        let mut server = launch.env("WATCHDOG_USEC", "100000").start();
        let client = Client::connect(server.addr());
        server.wait_for_log(&["WARN", "NOTIFY_SOCKET"]);
        server.signal(&["TERM"]);
        eventually(crate::support::PATIENCE, "it drains", || {
            get(server.addr(), "/readyz").status == 503
        });
        client.leave();
        server.assert_exit(0);
        let log = server.log();
        let warnings = log.lines().filter(|line| line.contains("NOTIFY_SOCKET")).count();
        assert_eq!(warnings, 1, "{log}");
    }
}

/// The watchdog is fed while it watches this process, and only then.
#[test]
fn a_watchdog_is_fed_if_it_watches_this_process() {
    let manager = Manager::new();
    let _server = launch(&manager, &[]).env("WATCHDOG_USEC", "400000").start();
    let first = manager.wait_for(&["WATCHDOG=1\n"]);
    let second = manager.wait_for_after(first + 1, &["WATCHDOG=1\n"]);
    manager.wait_for_after(second + 1, &["WATCHDOG=1\n"]);

    let other = Manager::new();
    let launch = launch(&other, &[]).env("WATCHDOG_USEC", "400000").env("WATCHDOG_PID", "1");
    let server = launch.start();
    other.wait_for(&["READY=1"]);
    server.signal(&["HUP"]);
    let reloading = other.wait_for(&["RELOADING=1"]);
    other.wait_for_after(reloading, &["READY=1"]);
    assert!(!other.heard().iter().any(|text| text.contains("WATCHDOG")));
}
