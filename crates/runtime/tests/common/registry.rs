//! A registry on loopback with the responses of a test, which may be wrong.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use runtime::{Credentials, Images};

/// Request of a client.
pub(crate) struct Request {
    pub(crate) path: String,
    /// The registry's own address.
    pub(crate) host: String,
    /// Whether the request has a password.
    pub(crate) is_basic: bool,
    /// Whether the request has a token.
    pub(crate) is_bearer: bool,
}

/// Response of a registry.
pub(crate) enum Answer {
    Blob(Vec<u8>),
    /// The end of the status line, further header lines with their line ends, and a body.
    Other(&'static str, String, Vec<u8>),
    /// A body that never ends.
    Endless(&'static str),
    Redirect(String),
    /// Fewer bytes than the stated length.
    Short(usize),
}

/// A registry that runs until the test ends.
pub(crate) struct Registry {
    pub(crate) port: u16,
    /// Bytes of bodies that clients received.
    pub(crate) sent: Arc<AtomicU64>,
}

impl Registry {
    pub(crate) fn serve(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Registry {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let sent = Arc::new(AtomicU64::new(0));
        let (answer, count) = (Arc::new(answer), Arc::clone(&sent));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (answer, count) = (Arc::clone(&answer), Arc::clone(&count));
                // Some tests need a client that disconnects early.
                std::thread::spawn(move || drop(converse(stream, &*answer, &count)));
            }
        });
        Registry { port, sent }
    }

    /// Starts a registry of blobs by digest, and of documents by the end of their path, such as
    /// `app/manifests/1`.
    pub(crate) fn of(blobs: HashMap<String, Vec<u8>>, documents: HashMap<String, Vec<u8>>) -> Registry {
        Registry::serve(move |request| {
            let path = request.path.trim_start_matches("/v2/");
            let last = path.rsplit('/').next().unwrap_or_default();
            match documents.get(path).or_else(|| blobs.get(last)) {
                Some(content) => Answer::Blob(content.clone()),
                None => not_found(),
            }
        })
    }

    pub(crate) fn name(&self, image: &str) -> String {
        format!("127.0.0.1:{}/{image}", self.port)
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

pub(crate) fn not_found() -> Answer {
    let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no such image"}]}"#;
    Answer::Other("404 Not Found", String::new(), body.to_vec())
}

fn converse(
    mut stream: TcpStream,
    answer: &dyn Fn(&Request) -> Answer,
    sent: &AtomicU64,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().unwrap_or(Ok(String::new()))?;
    let head: Vec<String> = lines
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
        .collect();
    let has = |start: &str| head.iter().any(|line| line.to_lowercase().starts_with(start));
    let request = Request {
        path: request.split(' ').nth(1).unwrap_or_default().to_owned(),
        host: stream.local_addr()?.to_string(),
        is_basic: has("authorization: basic"),
        is_bearer: has("authorization: bearer"),
    };
    let mut begin = |status: &str, headers: &str| {
        write!(stream, "HTTP/1.1 {status}\r\n{headers}connection: close\r\n\r\n")
    };
    match answer(&request) {
        Answer::Blob(body) => {
            begin("200 OK", &format!("content-length: {}\r\n", body.len()))?;
            sent.fetch_add(body.len() as u64, Ordering::Relaxed);
            stream.write_all(&body)
        }
        Answer::Other(status, headers, body) => {
            begin(status, &format!("{headers}content-length: {}\r\n", body.len()))?;
            stream.write_all(&body)
        }
        Answer::Short(announced) => {
            begin("200 OK", &format!("content-length: {announced}\r\n"))?;
            stream.write_all(b"x")
        }
        Answer::Redirect(to) => begin(
            "307 Temporary Redirect",
            &format!("location: {to}\r\ncontent-length: 0\r\n"),
        ),
        Answer::Endless(status) => {
            begin(status, "")?;
            let piece = vec![b' '; 64 << 10];
            loop {
                stream.write_all(&piece)?;
                sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
            }
        }
    }
}

pub(crate) fn pull(
    images: &Images,
    name: &str,
    credentials: Credentials,
) -> runtime::Result<runtime::ImageInfo> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(images.pull(name, &credentials))
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Blobs of images, by digest.
#[derive(Clone, Default)]
pub(crate) struct Blobs(pub(crate) HashMap<String, Vec<u8>>);

impl Blobs {
    pub(crate) fn add(&mut self, content: impl Into<Vec<u8>>) -> String {
        let content = content.into();
        let digest = digest(&content);
        self.0.insert(digest.clone(), content);
        digest
    }

    /// Adds an image with one uncompressed layer and returns its manifest's digest. `config` is
    /// inserted into the config's `config` object.
    pub(crate) fn image(&mut self, architecture: &str, layer: &[u8], config: &str) -> String {
        let diff_id = self.add(layer);
        let config = format!(
            r#"{{"architecture":"{architecture}","os":"linux","config":{{{config}}},"rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
        );
        let size = config.len();
        let config = self.add(config);
        self.add(manifest(&config, size, &[(diff_id, layer.len() as u64)]))
    }

    /// Adds an index of manifests by architecture and returns its digest.
    pub(crate) fn index(&mut self, manifests: &[(&str, &str)]) -> String {
        let entries: Vec<String> = manifests
            .iter()
            .map(|(architecture, digest)| {
                format!(
                    r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":1,
                        "platform":{{"architecture":"{architecture}","os":"linux"}}}}"#
                )
            })
            .collect();
        self.add(format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{}]}}"#,
            entries.join(",")
        ))
    }

    /// Writes an OCI archive whose index names one document.
    pub(crate) fn archive(&self, path: &std::path::Path, name: &str, top: &str) {
        let index = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{top}","size":1,
                "annotations":{{"io.containerd.image.name":"{name}"}}}}]}}"#
        );
        let archive = super::layer(|tar| {
            super::file(tar, "index.json", index.as_bytes(), 0o644);
            for (digest, content) in &self.0 {
                let place = format!("blobs/{}", digest.replace(':', "/"));
                super::file(tar, &place, content, 0o644);
            }
        });
        std::fs::write(path, archive).unwrap();
    }
}

/// Returns a manifest with these layers: digest and announced size.
pub(crate) fn manifest(config: &str, size: usize, layers: &[(String, u64)]) -> String {
    let layers: Vec<String> = layers
        .iter()
        .map(|(digest, size)| {
            format!(r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{digest}","size":{size}}}"#)
        })
        .collect();
    format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
            "config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":{size}}},
            "layers":[{}]}}"#,
        layers.join(",")
    )
}
