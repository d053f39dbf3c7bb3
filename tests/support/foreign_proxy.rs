//! Real proxies, as another user than the server's: nginx, HAProxy and Caddy.
//!
//! They are set up as their users do it first, with nothing but where to go, or as a page says.
//! Their logs are shown when a test fails.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    os::unix::fs::chown,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
};

use tempfile::TempDir;

use super::{PATIENCE, eventually, http::Http, server::as_user};

/// A user that is neither root nor anybody else's in these tests.
pub(crate) const PROXY_USER: u32 = 47_130;

const LOG_LINES_SHOWN: usize = 40;

/// A proxy that is gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    child: Child,
    addr: SocketAddr,
    folder: TempDir,
}

impl Proxy {
    /// nginx with `proxy_pass` and these further lines.
    #[track_caller]
    pub(crate) fn nginx(upstream: SocketAddr, lines: &str) -> Self {
        Self::nginx_with(|addr| {
            format!(
                "server {{ listen {addr}; location / {{\n\
                 proxy_pass http://{upstream};\n{lines}\n}} }}"
            )
        })
    }

    /// nginx with what stands in its `http` part, made of the address where it is to listen.
    #[track_caller]
    pub(crate) fn nginx_with(http: impl Fn(SocketAddr) -> String) -> Self {
        Self::start("nginx", |addr, folder| {
            let folder = folder.display();
            let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                .map(|kind| format!("{kind}_temp_path {folder}/{kind};"))
                .concat();
            format!(
                "daemon off; master_process off; pid {folder}/pid; error_log stderr;\n\
                 events {{}}\n\
                 http {{ access_log off; {temporary}\n{}\n}}\n",
                http(addr)
            )
        })
    }

    /// HAProxy in `mode tcp`.
    #[track_caller]
    pub(crate) fn tcp(upstream: SocketAddr) -> Self {
        Self::start("haproxy", |addr, _| {
            format!(
                "defaults\n mode tcp\n timeout connect 30s\n timeout client 30s\n \
                 timeout server 30s\nlisten it\n bind {addr}\n server s {upstream}\n"
            )
        })
    }

    /// `program` (`nginx`, `haproxy` or `caddy`) with what is made of the address where it is to
    /// listen and of a folder of its own.
    #[track_caller]
    pub(crate) fn start(
        program: &str,
        configuration: impl Fn(SocketAddr, &Path) -> String,
    ) -> Self {
        let folder = TempDir::new().expect("a folder can be made");
        chown(folder.path(), Some(PROXY_USER), Some(PROXY_USER)).expect("this test runs as root");
        let free = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let addr = free.local_addr().expect("it is bound");
        let file = folder.path().join("configuration");
        fs::write(&file, configuration(addr, folder.path())).expect("the folder takes files");
        let mut command = Command::new(program);
        match program {
            "nginx" => command.args(["-e", "stderr", "-c"]).arg(&file),
            "haproxy" => command.args(["-db", "-f"]).arg(&file),
            _ => command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&file),
        };
        let log = File::create(folder.path().join("log")).expect("the folder takes files");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command.env("HOME", folder.path());
        as_user(&mut command, PROXY_USER);
        drop(free);
        let child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
        let proxy = Self { child, addr, folder };
        eventually(PATIENCE, "the proxy listens", || Http::try_connect(addr).is_some());
        proxy
    }

    /// The address on which it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(LOG_LINES_SHOWN).collect();
            eprintln!("--- log of the proxy at {}, newest line first ---", self.addr);
            last.iter().for_each(|line| eprintln!("{line}"));
        }
    }
}
