//! A network between a node and its server, that can be cut.

#![expect(clippy::disallowed_methods, reason = "threads of a test, which end with it")]

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

/// How often a direction looks whether the network is cut.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Forwards connections until it is cut: then nothing passes, and nobody is told. Healed, it lets new ones through;
/// those from before are ended.
pub(crate) struct Proxy {
    address: SocketAddr,
    /// Odd while it is cut.
    cuts: Arc<AtomicU64>,
}

impl Proxy {
    /// Before the server of `url`.
    pub(crate) fn before(url: &str) -> Self {
        let server = authority(url).to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let cuts = Arc::<AtomicU64>::default();
        let (seen, to) = (cuts.clone(), server);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (seen, to) = (seen.clone(), to.clone());
                thread::spawn(move || forwarded(&client, &to, &seen));
            }
        });
        Self { address, cuts }
    }

    /// `url` through this network.
    pub(crate) fn url(&self, url: &str) -> String {
        url.replacen(authority(url), &self.address.to_string(), 1)
    }

    pub(crate) fn cut(&self) {
        assert_eq!(self.cuts.fetch_add(1, Ordering::SeqCst) % 2, 0, "it is cut already");
    }

    pub(crate) fn heal(&self) {
        assert_eq!(self.cuts.fetch_add(1, Ordering::SeqCst) % 2, 1, "it is not cut");
    }
}

/// Host and port.
fn authority(url: &str) -> &str {
    let rest = url.split_once('@').unwrap().1;
    rest.split('/').next().unwrap()
}

fn forwarded(client: &TcpStream, to: &str, cuts: &AtomicU64) {
    let begun = cuts.load(Ordering::SeqCst);
    while cuts.load(Ordering::SeqCst) == begun && begun % 2 == 1 {
        thread::sleep(LOOK_EVERY); // real time: who connects now waits for an answer
    }
    if cuts.load(Ordering::SeqCst) == begun
        && let Ok(server) = TcpStream::connect(to)
        // As both ends have it: what comes in pieces is not held back until the piece before was acknowledged.
        && client.set_nodelay(true).is_ok()
        && server.set_nodelay(true).is_ok()
    {
        thread::scope(|both| {
            both.spawn(|| one_way(client, &server, cuts, begun));
            both.spawn(|| one_way(&server, client, cuts, begun));
        });
    }
    drop(client.shutdown(Shutdown::Both));
}

fn one_way(mut from: &TcpStream, mut to: &TcpStream, cuts: &AtomicU64, begun: u64) {
    from.set_read_timeout(Some(LOOK_EVERY)).unwrap();
    let mut buffer = [0; 16 * 1024];
    loop {
        let now = cuts.load(Ordering::SeqCst);
        if now > begun + 1 {
            break;
        }
        if now == begun + 1 {
            thread::sleep(LOOK_EVERY); // real time: nothing passes
            continue;
        }
        match from.read(&mut buffer) {
            Ok(0) => break,
            // What was on its way when it was cut does not arrive.
            Ok(_) if cuts.load(Ordering::SeqCst) != begun => (),
            Ok(read) if to.write_all(&buffer[..read]).is_ok() => (),
            Ok(_) => break,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => (),
            Err(_) => break,
        }
    }
    drop(from.shutdown(Shutdown::Both));
    drop(to.shutdown(Shutdown::Both));
}
