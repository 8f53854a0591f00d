//! Registries for tests, on loopback: a real one, and one that does what no real one should.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;

/// The password of `ada`, who may read from a registry with [`Access::Basic`], as htpasswd(1) keeps it.
const PASSWORDS: &str = "ada:$2y$05$UOiEltTeDheh3.qfzAIKv.EWyrZ34itsDZMm8nOIVDEPnUCyJZpCi\n";

/// Where `tests/tools/make-layered-images` made images of layers, and a registry's storage.
pub(crate) fn oci() -> Option<PathBuf> {
    std::env::var_os("CHARIOT_TEST_OCI").map(PathBuf::from)
}

/// How a registry is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Plain,
    Tls,
    Basic,
}

/// Debian's docker-registry.
pub(crate) struct Registry {
    child: Child,
    pub(crate) host: String,
    place: TempDir,
}

/// A port that nobody has right now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

impl Registry {
    /// None where `tests/run` has prepared none.
    pub(crate) fn start(access: Access) -> Option<Registry> {
        Registry::start_at(access, free_port())
    }

    pub(crate) fn start_at(access: Access, port: u16) -> Option<Registry> {
        let oci = oci()?;
        let program = std::env::var_os("CHARIOT_TEST_REGISTRY").unwrap_or("docker-registry".into());
        let place = tempfile::tempdir().unwrap();
        let file = |name: &str| place.path().join(name);
        std::fs::write(file("passwords"), PASSWORDS).unwrap();
        let storage = oci.join("registry");
        let more = match access {
            Access::Plain => String::new(),
            Access::Basic => format!(
                "auth: {{htpasswd: {{realm: r, path: {}}}}}\n",
                file("passwords").display()
            ),
            Access::Tls => String::new(),
        };
        let (certificate, key) = (oci.join("server.pem"), oci.join("server.key"));
        let tls = match access {
            Access::Tls => format!(
                ", tls: {{certificate: {}, key: {}}}",
                certificate.display(),
                key.display()
            ),
            _ => String::new(),
        };
        let text = format!(
            "version: 0.1\nlog: {{level: warn, accesslog: {{disabled: false}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}, maintenance: {{readonly: {{enabled: true}}}}}}\n\
             http: {{addr: \"127.0.0.1:{port}\"{tls}}}\n{more}",
            storage.display()
        );
        std::fs::write(file("config.yml"), text).unwrap();
        let log = std::fs::File::create(file("log")).unwrap();
        let child = Command::new(program)
            .arg("serve")
            .arg(file("config.yml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .ok()?;
        let registry = Registry {
            child,
            host: format!("127.0.0.1:{port}"),
            place,
        };
        super::until("the registry starts", || {
            TcpStream::connect(&registry.host).is_ok()
        });
        Some(registry)
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.place.path().join("log")).unwrap()
    }

    /// The blobs that were asked for, one by one.
    pub(crate) fn blobs(&self) -> Vec<String> {
        self.log()
            .lines()
            .filter(|line| line.contains("\"GET "))
            .filter_map(|line| Some(line.split_once("/blobs/")?.1.split(' ').next()?.to_owned()))
            .collect()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A site's file for a registry without TLS.
pub(crate) fn plain(host: &str) -> String {
    format!("[registries.\"{host}\"]\nplain_http = true\n")
}

/// A request as a server of the tests sees it.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) headers: HashMap<String, String>,
}

/// An answer: status, headers, body, and whether to go on after that or to be silent for ever.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// What is said of the body's length, if that is not true.
    pub(crate) claimed: Option<usize>,
    pub(crate) hangs: bool,
}

impl Answer {
    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Answer {
        Answer {
            status: 200,
            body: body.into(),
            ..Answer::default()
        }
    }

    pub(crate) fn status(status: u16) -> Answer {
        Answer {
            status,
            ..Answer::default()
        }
    }
}

/// A server that answers as a function says, until it is dropped.
pub(crate) struct Server {
    pub(crate) host: String,
    pub(crate) seen: Arc<Mutex<Vec<Asked>>>,
    stop: Arc<Mutex<bool>>,
}

impl Server {
    pub(crate) fn start(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let (seen, stop) = (
            Arc::new(Mutex::new(Vec::new())),
            Arc::new(Mutex::new(false)),
        );
        let (all, stopped, answer) = (Arc::clone(&seen), Arc::clone(&stop), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if *stopped.lock().unwrap() {
                    return;
                }
                let (all, answer) = (Arc::clone(&all), Arc::clone(&answer));
                std::thread::spawn(move || serve(stream, &all, answer.as_ref()));
            }
        });
        Server { host, seen, stop }
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        self.seen
            .lock()
            .unwrap()
            .iter()
            .map(|asked| asked.path.clone())
            .collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        *self.stop.lock().unwrap() = true;
        let _ = TcpStream::connect(&self.host);
    }
}

/// One request a connection.
fn serve(mut stream: TcpStream, all: &Mutex<Vec<Asked>>, answer: &dyn Fn(&Asked) -> Answer) {
    let Some(asked) = read_request(&stream) else {
        return;
    };
    all.lock().unwrap().push(asked.clone());
    let answer = answer(&asked);
    let length = answer.claimed.unwrap_or(answer.body.len());
    let mut head = format!(
        "HTTP/1.1 {} X\r\nContent-Length: {length}\r\nConnection: close\r\n",
        answer.status
    );
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let _ = stream.write_all(format!("{head}\r\n").as_bytes());
    let _ = stream.write_all(&answer.body);
    if answer.hangs {
        // Until the other side has had enough.
        let _ = stream.set_read_timeout(Some(Duration::from_secs(60)));
        let _ = stream.read(&mut [0; 64]);
    }
    let _ = stream.shutdown(Shutdown::Both);
}

fn read_request(stream: &TcpStream) -> Option<Asked> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let path = first.split(' ').nth(1)?.to_owned();
    let mut headers = HashMap::new();
    for line in lines {
        let line = line.ok()?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    Some(Asked { path, headers })
}

/// A way to a real registry that lets so many bytes through in a second, with a short pause after each part.
pub(crate) fn slow_way(to: &str, bytes_per_second: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let to = to.to_owned();
    std::thread::spawn(move || {
        // As many connections as a test can need; the thread ends with the test program.
        for stream in listener.incoming().flatten().take(200) {
            let Ok(server) = TcpStream::connect(&to) else {
                continue;
            };
            let (mut asks, mut hears) = (stream.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut asks, &mut hears));
            std::thread::spawn(move || {
                let (mut from, mut to) = (server, stream);
                let mut part = vec![0; bytes_per_second / 10];
                while let Ok(count @ 1..) = from.read(&mut part) {
                    if to.write_all(&part[..count]).is_err() {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(100));
                }
                let _ = to.shutdown(Shutdown::Both);
            });
        }
    });
    host
}
