//! Talking to an Evener that runs, through its admin API.
use super::terminal;
use crate::admin::ModelStatus;
use bytes::Bytes;
use http::header::{ACCEPT, HeaderValue};
use http::uri::{Scheme, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;
use tokio::net::TcpStream;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A reload binds sockets and reads files.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);
const LONGEST_ANSWER: usize = 64 << 20;

/// Where the Evener is that a command speaks to.
#[derive(Clone, clap::Args)]
pub struct AdminArgs {
    /// The admin address of the Evener that runs
    #[arg(long, value_name = "URL", env = "EVENER_ADMIN", default_value = "http://127.0.0.1:9900")]
    pub admin: String,
    /// Its admin token; better in the environment than here
    #[arg(long, value_name = "TOKEN", env = "EVENER_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
}

impl std::fmt::Debug for AdminArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminArgs").field("admin", &self.admin).finish_non_exhaustive()
    }
}

/// Why a command did not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// For stderr: lines, already clean.
    pub message: String,
    /// 1: a negative answer; 2: wrong usage.
    pub code: u8,
}

impl Failure {
    pub fn new(message: impl AsRef<str>) -> Self {
        Self { message: terminal::clean_lines(&format!("error: {}", message.as_ref())), code: 1 }
    }

    fn usage(message: &str) -> Self {
        Self { code: 2, ..Self::new(message) }
    }
}

/// Prints what a command has to say, and gives its exit code.
pub(super) fn finish(ended: Result<String, Failure>) -> ExitCode {
    match ended {
        Ok(text) => {
            terminal::out(&text);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            terminal::err(&failure.message);
            ExitCode::from(failure.code)
        }
    }
}

/// An answer in JSON.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    pub status: u16,
    pub body: Value,
}

impl Reply {
    /// As [`Self::good`], where a 400 means that the command was used wrongly.
    pub(super) fn good_or_usage(self) -> Result<Value, Failure> {
        let code = if self.status == 400 { 2 } else { 1 };
        self.good().map_err(|failure| Failure { code, ..failure })
    }

    /// The body of a good answer; a bad one as a failure.
    pub fn good(self) -> Result<Value, Failure> {
        if (200..300).contains(&self.status) {
            return Ok(self.body);
        }
        let said = self.body["error"]["message"].as_str();
        let mut message =
            said.map_or_else(|| format!("Evener answered {}", self.status), str::to_owned);
        if self.status == 401 {
            message.push_str("; give it with --token or in $EVENER_TOKEN");
        }
        Err(Failure::new(message))
    }
}

/// What an answer says, as data.
pub(super) fn understood<T: DeserializeOwned>(body: Value) -> Result<T, Failure> {
    serde_json::from_value(body)
        .map_err(|error| Failure::new(format!("the answer is not understood: {error}")))
}

/// One Evener that runs.
#[derive(Clone)]
pub struct Remote {
    url: String,
    host: String,
    port: u16,
    authority: String,
    prefix: String,
    token: Option<String>,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Remote {
    pub fn new(args: &AdminArgs) -> Result<Self, Failure> {
        let url = args.admin.as_str();
        let bad = || {
            let example = "write for example `http://127.0.0.1:9900`";
            Failure::usage(&format!("--admin is `{url}`, which is not an address; {example}"))
        };
        // What is only `host:port` is taken for what was meant.
        let full = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let uri: Uri = full.parse().map_err(|_| bad())?;
        let authority = uri.authority().ok_or_else(bad)?;
        if uri.scheme() != Some(&Scheme::HTTP) || authority.as_str().contains('@') {
            return Err(bad());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self {
            host,
            port: authority.port_u16().unwrap_or(80),
            authority: authority.to_string(),
            prefix: uri.path().trim_end_matches('/').to_owned(),
            url: full.trim_end_matches('/').to_owned(),
            token: args.token.clone().filter(|token| !token.is_empty()),
        })
    }

    pub async fn get(&self, path: &str) -> Result<Reply, Failure> {
        self.ask("GET", path, None).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<Reply, Failure> {
        self.ask("POST", path, Some(body)).await
    }

    /// How a model stands.
    pub(super) async fn model(&self, name: &str) -> Result<ModelStatus, Failure> {
        understood(self.get(&format!("/api/v1/models/{}", segment(name))).await?.good()?)
    }

    async fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Reply, Failure> {
        let stream = self.connect().await?;
        let exchange = Box::pin(self.exchange(stream, self.request(method, path, body)?));
        let late = |_| Failure::new(format!("{} does not answer", self.url));
        let (status, bytes) =
            tokio::time::timeout(ANSWER_TIMEOUT, exchange).await.map_err(late)??;
        let body = serde_json::from_slice(&bytes).map_err(|_| {
            let message =
                format!("{} answered {status}, and not in JSON: is it an Evener?", self.url);
            Failure::new(message)
        })?;
        Ok(Reply { status, body })
    }

    async fn connect(&self) -> Result<TcpStream, Failure> {
        let dial = TcpStream::connect((self.host.as_str(), self.port));
        let why = match tokio::time::timeout(CONNECT_TIMEOUT, dial).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                "is it running?".to_owned()
            }
            Ok(Err(error)) => format!("{error}; is it running?"),
            Err(_) => "no answer; is it running?".to_owned(),
        };
        Err(Failure::new(format!("cannot reach Evener at {}: {why} (--admin)", self.url)))
    }

    fn request(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.prefix))
            .header("host", &self.authority)
            .header("accept", "application/json");
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let bytes = body.map(ToString::to_string).unwrap_or_default();
        let request = request.body(Full::new(Bytes::from(bytes)));
        request.map_err(|_| Failure::usage("the token holds characters that no header can carry"))
    }

    async fn exchange(
        &self,
        stream: TcpStream,
        request: Request<Full<Bytes>>,
    ) -> Result<(u16, Bytes), Failure> {
        let response = self.send(stream, request).await?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), LONGEST_ANSWER).collect().await;
        Ok((status, body.map_err(|error| self.lost(&error))?.to_bytes()))
    }

    async fn send(
        &self,
        stream: TcpStream,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Failure> {
        let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = shaken.map_err(|error| self.lost(&error))?;
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(|error| self.lost(&error))
    }

    fn lost(&self, error: &dyn std::fmt::Display) -> Failure {
        Failure::new(format!("the connection to {} broke: {error}", self.url))
    }

    /// Reads a stream of server-sent events until `each`, given name and data, says no.
    pub(super) async fn follow(
        &self,
        path: &str,
        mut each: impl FnMut(&str, &str) -> bool,
    ) -> Result<(), Failure> {
        let mut request = self.request("GET", path, None)?;
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        let response = self.send(self.connect().await?, request).await?;
        let status = response.status().as_u16();
        let mut body = response.into_body();
        if status != 200 {
            let body = Limited::new(body, LONGEST_ANSWER).collect().await;
            let bytes = body.map_err(|error| self.lost(&error))?.to_bytes();
            let body = serde_json::from_slice(&bytes).unwrap_or_default();
            return Reply { status, body }.good_or_usage().map(|_| ());
        }
        let (mut text, mut name) = (Vec::new(), String::new());
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| self.lost(&error))?;
            text.extend_from_slice(&frame.into_data().unwrap_or_default());
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                match line.trim_end().split_once(": ") {
                    Some(("event", event)) => event.clone_into(&mut name),
                    Some(("data", data)) if !each(&std::mem::take(&mut name), data) => {
                        return Ok(());
                    }
                    Some(_) | None => {}
                }
            }
        }
        Err(self.lost(&"Evener ended it"))
    }
}

/// One segment of a path.
pub(super) fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("a String takes everything");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(admin: &str) -> Result<Remote, Failure> {
        Remote::new(&AdminArgs { admin: admin.to_owned(), token: None })
    }

    #[test]
    fn an_admin_address_is_a_url_or_host_and_port() {
        let of = |admin| remote(admin).map(|r| (r.host, r.port, r.authority, r.prefix)).unwrap();
        let made = |host: &str, port, authority: &str, prefix: &str| {
            (host.to_owned(), port, authority.to_owned(), prefix.to_owned())
        };
        assert_eq!(of("http://127.0.0.1:9900/"), made("127.0.0.1", 9900, "127.0.0.1:9900", ""));
        assert_eq!(of("[::1]:9900"), made("::1", 9900, "[::1]:9900", ""));
        assert_eq!(of("http://gate/evener/"), made("gate", 80, "gate", "/evener"));
        for bad in ["", "https://a:1", "http://", "http://u:p@a:1", "nothing at all"] {
            assert_eq!(remote(bad).unwrap_err().code, 2, "{bad}");
        }
    }

    #[test]
    fn names_are_encoded_in_paths() {
        assert_eq!(segment("meta-llama/Llama 3"), "meta-llama%2FLlama%203");
    }

    #[tokio::test]
    async fn nobody_there_is_said_with_the_address() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let failure = remote(&url).unwrap().get("/api/v1/status").await.unwrap_err();
        let said = format!("error: cannot reach Evener at {url}: is it running? (--admin)\n");
        assert_eq!(failure, Failure { message: said, code: 1 });
    }
}
