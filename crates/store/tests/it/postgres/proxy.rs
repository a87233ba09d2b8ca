//! A server that is reached through a wire which can be cut at a chosen word.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

/// Where the wire is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// Before the client's first statement with the word reaches the server.
    Asked(&'static str),
    /// Behind the client's first statement with the word: the server has it, and does not notice that nobody hears it.
    Heard(&'static str),
    /// Before the server's answer with the word reaches the client.
    Answered(&'static str),
}

/// Forwards connections to a server; cuts one of them when it is armed.
pub(super) struct Proxy {
    address: u16,
    wire: Arc<Wire>,
}

struct Wire {
    server: String,
    cut: Cut,
    armed: AtomicBool,
    cuts: AtomicUsize,
    /// The server's ends of what was cut without its notice.
    kept: Mutex<Vec<TcpStream>>,
    closed: AtomicBool,
}

impl Proxy {
    /// In front of `server`, given as `host:port`.
    #[expect(clippy::disallowed_methods, reason = "ends when the proxy is dropped")]
    pub(super) fn start(server: &str, cut: Cut) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap().port();
        let (armed, closed) = (AtomicBool::new(false), AtomicBool::new(false));
        let (server, cuts, kept) = (server.to_owned(), AtomicUsize::new(0), Mutex::default());
        let wire = Arc::new(Wire { server, cut, armed, cuts, kept, closed });
        let accepting = Arc::clone(&wire);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if accepting.closed.load(Ordering::Acquire) {
                    return;
                }
                let server = TcpStream::connect(&accepting.server).unwrap();
                for (from, to, asks) in [
                    (client.try_clone().unwrap(), server.try_clone().unwrap(), true),
                    (server, client, false),
                ] {
                    let wire = Arc::clone(&accepting);
                    thread::spawn(move || drop(wire.forward(from, to, asks)));
                }
            }
        });
        Self { address, wire }
    }

    pub(super) fn port(&self) -> u16 {
        self.address
    }

    /// The next word cuts, once.
    pub(super) fn arm(&self) {
        self.wire.armed.store(true, Ordering::Release);
    }

    pub(super) fn cuts(&self) -> usize {
        self.wire.cuts.load(Ordering::Acquire)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.wire.closed.store(true, Ordering::Release);
        // It is accepting: this is what it accepts last.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.address)));
    }
}

impl Wire {
    fn forward(&self, mut from: TcpStream, mut to: TcpStream, asks: bool) -> io::Result<()> {
        from.set_read_timeout(Some(Duration::from_secs(120)))?;
        let word = match self.cut {
            Cut::Asked(word) | Cut::Heard(word) => Some(word).filter(|_| asks),
            Cut::Answered(word) => Some(word).filter(|_| !asks),
        };
        let mut buffer = [0; 64 * 1024];
        loop {
            let length = from.read(&mut buffer)?;
            let bytes = &buffer[..length];
            let found = word.is_some_and(|word| {
                bytes.windows(word.len()).any(|window| window == word.as_bytes())
            });
            if length == 0 || found && self.armed.swap(false, Ordering::AcqRel) {
                if length > 0 {
                    self.cuts.fetch_add(1, Ordering::AcqRel);
                    if matches!(self.cut, Cut::Heard(_)) {
                        to.write_all(bytes)?;
                        self.kept.lock().unwrap().push(to);
                        return from.shutdown(Shutdown::Both);
                    }
                }
                to.shutdown(Shutdown::Both)?;
                return from.shutdown(Shutdown::Both);
            }
            to.write_all(bytes)?;
        }
    }
}
