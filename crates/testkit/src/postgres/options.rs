//! What a server is started with.

use std::{fmt, path::Path};

/// How a server is started.
#[derive(Clone, Debug)]
#[must_use]
pub struct Options {
    settings: Vec<(String, String)>,
    pub(super) has_tcp: bool,
}

impl Options {
    /// 200 connections, a unix socket alone, and the durability that PostgreSQL has by default:
    /// `fsync` and `synchronous_commit` are on.
    pub fn new() -> Self {
        Self { settings: Vec::new(), has_tcp: false }
    }

    /// The same, much faster, and losing what was committed when the machine (not the server)
    /// crashes.
    pub fn without_fsync(self) -> Self {
        self.setting("fsync", "off").setting("full_page_writes", "off")
    }

    /// The same, reachable through a free port of the loopback interface, too; by every user of
    /// this machine, without a password. The port stays the same over restarts.
    pub fn tcp(mut self) -> Self {
        self.has_tcp = true;
        self
    }

    /// The same with at most `count` connections.
    pub fn max_connections(self, count: u32) -> Self {
        self.setting("max_connections", count)
    }

    /// The same with the server's setting `name`; the last one of a name counts.
    pub fn setting(mut self, name: impl Into<String>, value: impl fmt::Display) -> Self {
        self.settings.push((name.into(), value.to_string()));
        self
    }

    /// All settings of a server, those that were asked for last.
    pub(super) fn all(self, folder: &Path, port: u16) -> Vec<(String, String)> {
        let loopback = if self.has_tcp { "127.0.0.1" } else { "" };
        let own = [
            ("listen_addresses", loopback.to_owned()),
            ("port", port.to_string()),
            // Within quotes of its own: a list.
            ("unix_socket_directories", format!("\"{}\"", folder.display())),
            ("max_connections", "200".to_owned()),
            ("shared_buffers", "32MB".to_owned()),
            // In its folder, and gone with it; otherwise what a killed server had would stay.
            ("dynamic_shared_memory_type", "mmap".to_owned()),
            ("timezone", "UTC".to_owned()),
            ("log_line_prefix", "%m [%p] %d ".to_owned()),
        ];
        let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
        own.chain(self.settings).collect()
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}
