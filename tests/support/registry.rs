// SPDX-License-Identifier: Apache-2.0
//! The REG rig: HTTP(S) servers on loopback that answer as a script says, and record every request.
//!
//! Replies are written byte by byte by hand, so that they can be wrong in every way; nothing here
//! uses the code under test. A connection serves one request after the other until a reply closes
//! it.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Who signs the certificates of a test.
pub struct Authority {
    issuer: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
}

/// A certificate for a server or a client, with its key.
pub struct Certified {
    pub certificate: rcgen::Certificate,
    pub key: rcgen::KeyPair,
}

/// When a certificate is good.
#[derive(Clone, Copy)]
pub enum Valid {
    Now,
    Formerly,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "rig");
        let key = rcgen::KeyPair::generate().unwrap();
        Self {
            issuer: rcgen::CertifiedIssuer::self_signed(params, key).unwrap(),
        }
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    pub fn certify(&self, name: &str, valid: Valid) -> Certified {
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        if let Valid::Formerly = valid {
            params.not_before = rcgen::date_time_ymd(2001, 1, 1);
            params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        }
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Certified { certificate, key }
    }

    /// A server's side of TLS; with `clients` only they may connect.
    pub fn server(
        &self,
        certified: &Certified,
        clients: Option<&Self>,
    ) -> Arc<rustls::ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = rustls::RootCertStore::empty();
                roots.add(authority.issuer.der().clone()).unwrap();
                let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
                    Arc::new(roots),
                    provider,
                );
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let key = rustls::pki_types::PrivateKeyDer::try_from(certified.key.serialize_der());
        let chain = vec![certified.certificate.der().clone()];
        Arc::new(builder.with_single_cert(chain, key.unwrap()).unwrap())
    }
}

/// A request as it came in.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    /// Without the query.
    pub path: String,
    pub query: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Requests before this one with the same method and path.
    pub nth: usize,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The first byte that a `Range` asks for.
    pub fn range(&self) -> Option<usize> {
        let range = self.header("range")?.strip_prefix("bytes=")?;
        range.strip_suffix('-')?.parse().ok()
    }

    /// Everything, to look for secrets in.
    pub fn text(&self) -> String {
        format!("{self:?} {}", String::from_utf8_lossy(&self.body))
    }
}

/// What a server says, and how.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Instead of everything else.
    raw: Option<Vec<u8>>,
    /// Before the first byte.
    delay: Duration,
    /// Bytes at a time, with a pause in between.
    drip: Option<(usize, Duration)>,
    /// The same below TLS: a record comes in pieces.
    drip_below: Option<(usize, Duration)>,
    /// The connection ends after this many bytes of the body.
    cut: Option<usize>,
    /// What `Content-Length` says; the body's length unless set.
    length: Option<String>,
    transfer: Transfer,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Transfer {
    #[default]
    Length,
    Chunked,
    /// Until the connection ends.
    Close,
    /// The body again and again, for ever.
    Endless,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            body: body.into(),
            ..Self::default()
        }
    }

    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self::new(200, body)
    }

    pub fn redirect(status: u16, to: &str) -> Self {
        Self::new(status, "").header("Location", to)
    }

    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            raw: Some(bytes.into()),
            ..Self::default()
        }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The field with another value, or without it.
    pub fn instead(mut self, name: &str, value: Option<&str>) -> Self {
        self.headers
            .retain(|(key, _)| !key.eq_ignore_ascii_case(name));
        match value {
            Some(value) => self.header(name, value),
            None => self,
        }
    }

    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    pub fn drip(mut self, bytes: usize, pause: Duration) -> Self {
        self.drip = Some((bytes, pause));
        self
    }

    pub fn drip_below_tls(mut self, bytes: usize, pause: Duration) -> Self {
        self.drip_below = Some((bytes, pause));
        self
    }

    pub fn cut(mut self, after: usize) -> Self {
        self.cut = Some(after);
        self
    }

    pub fn length(mut self, length: &str) -> Self {
        self.length = Some(length.to_owned());
        self
    }

    pub fn transfer(mut self, transfer: Transfer) -> Self {
        self.transfer = transfer;
        self
    }

    fn head(&self) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} Scripted\r\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        match self.transfer {
            Transfer::Length => {
                let length = self.length.clone();
                let length = length.unwrap_or_else(|| self.body.len().to_string());
                head.push_str(&format!("Content-Length: {length}\r\n"));
            }
            Transfer::Chunked | Transfer::Endless => {
                head.push_str("Transfer-Encoding: chunked\r\n");
            }
            Transfer::Close => head.push_str("Connection: close\r\n"),
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    /// Writes the reply; false when the connection is to end.
    fn write(&self, to: &mut dyn Write, method: &str) -> io::Result<bool> {
        pause(self.delay);
        if let Some(raw) = &self.raw {
            self.send(to, raw)?;
            return Ok(false);
        }
        let mut bytes = self.head();
        if method == "HEAD" {
            to.write_all(&bytes)?;
            return Ok(true);
        }
        let body = match self.cut {
            Some(cut) => self.body.get(..cut).unwrap_or(&self.body),
            None => &self.body,
        };
        match self.transfer {
            Transfer::Length | Transfer::Close => bytes.extend_from_slice(body),
            Transfer::Chunked | Transfer::Endless => {
                bytes.extend_from_slice(format!("{:x}\r\n", body.len()).as_bytes());
                bytes.extend_from_slice(body);
                bytes.extend_from_slice(b"\r\n");
            }
        }
        if self.transfer == Transfer::Chunked && self.cut.is_none() {
            bytes.extend_from_slice(b"0\r\n\r\n");
        }
        self.send(to, &bytes)?;
        if self.transfer == Transfer::Endless {
            let chunk = format!("{:x}\r\n", body.len());
            loop {
                to.write_all(chunk.as_bytes())?;
                to.write_all(body)?;
                to.write_all(b"\r\n")?;
            }
        }
        Ok(self.cut.is_none() && self.transfer != Transfer::Close)
    }

    fn send(&self, to: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
        let Some((size, wait)) = self.drip else {
            to.write_all(bytes)?;
            return to.flush();
        };
        for part in bytes.chunks(size) {
            to.write_all(part)?;
            to.flush()?;
            pause(wait);
        }
        Ok(())
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a slow server is slow by the clock"
)]
fn pause(duration: Duration) {
    if !duration.is_zero() {
        thread::sleep(duration);
    }
}

type Script = dyn Fn(&Seen) -> Reply + Send + Sync;

/// A server that has an address and does not answer yet.
pub struct Bound {
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
}

/// A server that answers until dropped.
pub struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<AtomicBool>,
}

impl Bound {
    pub fn new(tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        Self {
            listener: TcpListener::bind("127.0.0.1:0").unwrap(),
            tls,
        }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.host())
    }

    pub fn serve(self, script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Server {
        let server = Server {
            address: self.listener.local_addr().unwrap(),
            seen: Arc::default(),
            stop: Arc::default(),
        };
        let (seen, stop) = (Arc::clone(&server.seen), Arc::clone(&server.stop));
        let script: Arc<Script> = Arc::new(script);
        thread::spawn(move || {
            for stream in self.listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                stream.set_nodelay(true).unwrap();
                // A client that went away must not keep a thread for ever.
                stream
                    .set_read_timeout(Some(Duration::from_secs(20)))
                    .unwrap();
                stream
                    .set_write_timeout(Some(Duration::from_secs(20)))
                    .unwrap();
                let connection = Connection {
                    seen: Arc::clone(&seen),
                    script: Arc::clone(&script),
                    slow: Arc::default(),
                };
                let tls = self.tls.clone();
                thread::spawn(move || connection.run(stream, tls));
            }
        });
        server
    }
}

impl Server {
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    pub fn seen(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The requests for something, without those that find out whether the server speaks TLS.
    pub fn asked(&self) -> Vec<Seen> {
        let seen = self.seen();
        seen.iter()
            .filter(|seen| seen.path != "/v2/")
            .cloned()
            .collect()
    }

    /// How many requests had this method and a path that ends so.
    pub fn count(&self, method: &str, end: &str) -> usize {
        let seen = self.seen();
        let is_one = |seen: &&Seen| seen.method == method && seen.path.ends_with(end);
        seen.iter().filter(is_one).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.address));
    }
}

struct Connection {
    seen: Arc<Mutex<Vec<Seen>>>,
    script: Arc<Script>,
    /// How slowly the socket writes from now on.
    slow: Arc<Mutex<Option<(usize, Duration)>>>,
}

/// A socket that can be slow.
struct Socket {
    stream: TcpStream,
    slow: Arc<Mutex<Option<(usize, Duration)>>>,
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }
}

impl Write for Socket {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let slow = *self.slow.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((size, wait)) = slow else {
            return self.stream.write(buffer);
        };
        pause(wait);
        self.stream.write(buffer.get(..size).unwrap_or(buffer))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl Connection {
    fn run(&self, stream: TcpStream, tls: Option<Arc<rustls::ServerConfig>>) {
        let slow = Arc::clone(&self.slow);
        let mut stream = Socket { stream, slow };
        // Errors are the client's going away.
        match tls {
            None => drop(self.serve(&mut stream)),
            Some(config) => {
                let connection = rustls::ServerConnection::new(config).unwrap();
                let mut stream = rustls::StreamOwned::new(connection, stream);
                drop(self.serve(&mut stream));
                stream.conn.send_close_notify();
                drop(stream.flush());
            }
        }
    }

    fn serve<S: Read + Write>(&self, stream: &mut S) -> io::Result<()> {
        let mut reader = BufReader::new(stream);
        loop {
            let mut request = match read_request(&mut reader) {
                Ok(Some(request)) => request,
                Ok(None) => return Ok(()),
                Err(err) => {
                    // As Go's server says to those who speak TLS to it.
                    let stream = reader.get_mut();
                    stream
                        .write_all(b"HTTP/1.0 400 Bad Request\r\n\r\nHTTPS to an HTTP server\n")?;
                    return Err(err);
                }
            };
            {
                let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
                let same =
                    |other: &&Seen| other.method == request.method && other.path == request.path;
                request.nth = seen.iter().filter(same).count();
                seen.push(request.clone());
            }
            let reply = (self.script)(&request);
            *self.slow.lock().unwrap_or_else(PoisonError::into_inner) = reply.drip_below;
            if !reply.write(reader.get_mut(), &request.method)? {
                return Ok(());
            }
        }
    }
}

fn read_request<R: Read>(reader: &mut BufReader<R>) -> io::Result<Option<Seen>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let method = words.next().unwrap_or_default().to_owned();
    let target = words.next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut seen = Seen {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        headers: Vec::new(),
        body: Vec::new(),
        nth: 0,
    };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        seen.headers
            .push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = seen
        .header("content-length")
        .and_then(|text| text.parse().ok());
    seen.body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut seen.body)?;
    Ok(Some(seen))
}
