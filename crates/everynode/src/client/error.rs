//! How a refused request is told to the user: in the words of the server, in the form that kubectl uses.

use serde_json::Value;

/// The answer of the API server to a request that it refused: a `Status` object.
#[derive(Debug, Clone)]
pub(crate) struct ServerError {
    /// HTTP status code, 400 to 599.
    pub(crate) code: u16,
    /// CamelCase reason such as `NotFound`; empty when the answer was no `Status`.
    pub(crate) reason: String,
    /// The server's sentence.
    pub(crate) message: String,
    /// Where the request came from: `error when creating "x.yaml"`.
    pub(crate) context: Option<String>,
}

impl ServerError {
    /// Reads the body of a refused request. A body that is no `Status` is quoted as it is.
    pub(crate) fn from_body(code: u16, body: &[u8]) -> Self {
        let status: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        let text = |field: &str| status[field].as_str().map(str::to_owned);
        Self {
            code,
            reason: text("reason").unwrap_or_default(),
            message: text("message").unwrap_or_else(|| {
                let quoted = String::from_utf8_lossy(body);
                match quoted.trim() {
                    "" => format!("the server answered {code} without a body"),
                    body => body.to_owned(),
                }
            }),
            context: None,
        }
    }

    /// The same error with the name of the file that was being sent.
    pub(crate) fn when(mut self, context: impl Into<String>) -> Self {
        self.context = Some(context.into());
        self
    }

    /// Whether the object does not exist.
    pub(crate) fn is_not_found(&self) -> bool {
        self.code == 404
    }
}

impl std::fmt::Display for ServerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A 422 already begins with the object's name: kubectl prints it without "from server".
        if self.reason == "Invalid" && self.context.is_none() {
            return f.write_str(&self.message);
        }
        f.write_str("Error from server")?;
        if !self.reason.is_empty() {
            write!(f, " ({})", self.reason)?;
        }
        f.write_str(": ")?;
        if let Some(context) = &self.context {
            write!(f, "{context}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for ServerError {}

/// The text that the user sees when a verb fails, printed once, by `main`.
pub(crate) fn describe(error: &anyhow::Error) -> String {
    match error.downcast_ref::<ServerError>() {
        Some(server) => server.to_string(),
        None => format!("error: {error:#}"),
    }
}

/// Whether `error` says that the object does not exist.
pub(crate) fn is_not_found(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<ServerError>()
        .is_some_and(ServerError::is_not_found)
}
