//! Errors of rejected requests, with the server's message in kubectl's format.

use serde_json::Value;

/// Error response of the API server: a `Status` object.
#[derive(Debug, Clone)]
pub(crate) struct ServerError {
    /// HTTP status code, 400 to 599.
    pub(crate) code: u16,
    /// CamelCase reason such as `NotFound`; empty when the response was not a `Status`.
    pub(crate) reason: String,
    /// The server's message.
    pub(crate) message: String,
    /// Source of the request: `error when creating "x.yaml"`.
    pub(crate) context: Option<String>,
    /// Kind and name of an invalid object.
    pub(crate) object: Option<(String, String)>,
    /// Faults of an invalid object, each as `field: message`.
    pub(crate) causes: Vec<String>,
}

impl ServerError {
    /// Parses the body of an error response. A body that is not a `Status` becomes the message.
    pub(crate) fn from_body(code: u16, body: &[u8]) -> Self {
        let status: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        let details = &status["details"];
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
            object: details["kind"]
                .as_str()
                .zip(details["name"].as_str())
                .map(|(kind, name)| (kind.into(), name.into())),
            causes: details["causes"]
                .as_array()
                .into_iter()
                .flatten()
                .map(cause)
                .collect(),
        }
    }

    /// Adds the name of the file that was sent.
    pub(crate) fn when(mut self, context: impl Into<String>) -> Self {
        self.context = Some(context.into());
        self
    }
}

/// Formats a cause of an error as `field: message`.
fn cause(cause: &Value) -> String {
    let text = |field: &str| cause[field].as_str().unwrap_or_default();
    match text("field") {
        "" => text("message").to_owned(),
        // The value is the whole patch, which is long and not what the user wrote.
        "patch" => {
            let why = text("message")
                .rsplit_once("\": ")
                .map_or(text("message"), |(_, why)| why);
            format!("patch: {why}")
        }
        field => format!("{field}: {}", text("message")),
    }
}

impl std::fmt::Display for ServerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.reason == "Invalid" {
            return self.write_invalid(f);
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

impl ServerError {
    /// Writes the invalid object, then its faults. Several faults have a line each.
    fn write_invalid(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.object {
            Some((kind, name)) => write!(f, "The {kind} \"{name}\" is invalid")?,
            None => match &self.context {
                Some(context) => write!(f, "{context}: the request is invalid")?,
                None => f.write_str("The request is invalid")?,
            },
        }
        match self.causes.as_slice() {
            [] => write!(f, ": {}", self.message),
            [cause] => write!(f, ": {cause}"),
            causes => write!(f, ": \n* {}", causes.join("\n* ")),
        }
    }
}

impl std::error::Error for ServerError {}

/// Returns the text that `main` prints once when a verb fails.
pub(crate) fn describe(error: &anyhow::Error) -> String {
    if let Some(server) = error.downcast_ref::<ServerError>() {
        return server.to_string();
    }
    if let Some(several) = error.downcast_ref::<Several>() {
        return several.to_string();
    }
    format!("error: {}", chain(error))
}

/// Formats an error and its causes without repetition.
fn chain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        // Some libraries include the cause in their own message.
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Returns whether the object does not exist (404).
pub(crate) fn is_not_found(error: &anyhow::Error) -> bool {
    has_code(error, 404)
}

/// Attempts of a write that conflicts with other writes, as in kubectl.
pub(crate) const CONFLICT_TRIES: usize = 5;

/// Returns whether another client wrote meanwhile, or the object exists already (409).
pub(crate) fn is_conflict(error: &anyhow::Error) -> bool {
    has_code(error, 409)
}

/// Returns whether the requested revision was compacted (410).
pub(crate) fn is_expired(error: &anyhow::Error) -> bool {
    has_code(error, 410)
}

fn has_code(error: &anyhow::Error, code: u16) -> bool {
    error
        .downcast_ref::<ServerError>()
        .is_some_and(|server| server.code == code)
}

/// Failures of a verb that continues after each of them.
#[derive(Default)]
pub(crate) struct Failures(Vec<anyhow::Error>);

impl Failures {
    /// Stores a failure; returns a success.
    pub(crate) fn note<T>(&mut self, result: Result<T, anyhow::Error>) -> Option<T> {
        result.map_err(|error| self.0.push(error)).ok()
    }

    /// Returns all failures as one error, if there are any.
    pub(crate) fn finish(mut self) -> Result<(), anyhow::Error> {
        match self.0.len() {
            0 => Ok(()),
            1 => Err(self.0.remove(0)),
            _ => self.finish_as_list(),
        }
    }

    /// Returns all failures as one error, with one line each, even for a single failure.
    pub(crate) fn finish_as_list(self) -> Result<(), anyhow::Error> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(Several(self.0).into()),
        }
    }
}

/// Failures of several steps. Like kubectl, each has its own line, without `error:`.
#[derive(Debug)]
struct Several(Vec<anyhow::Error>);

impl std::fmt::Display for Several {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lines: Vec<String> = self
            .0
            .iter()
            .map(|error| match error.downcast_ref::<ServerError>() {
                Some(server) => server.to_string(),
                None => chain(error),
            })
            .collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for Several {}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(code: u16, status: &Value) -> String {
        ServerError::from_body(code, status.to_string().as_bytes()).to_string()
    }

    #[test]
    fn a_refusal_is_told_in_kubectls_form() {
        let missing = json!({"reason": "NotFound", "message": "pods \"x\" not found"});
        assert_eq!(
            told(404, &missing),
            "Error from server (NotFound): pods \"x\" not found"
        );
        assert_eq!(
            ServerError::from_body(502, b"").to_string(),
            "Error from server: the server answered 502 without a body"
        );
    }

    #[test]
    fn each_fault_of_an_object_has_a_line_of_its_own() {
        let mut status = json!({"reason": "Invalid", "message": "long", "details": {"kind": "DaemonSet", "name": "x",
            "causes": [{"field": "spec.a", "message": "Required value"}]}});
        assert_eq!(
            told(422, &status),
            "The DaemonSet \"x\" is invalid: spec.a: Required value"
        );
        status["details"]["causes"] =
            json!([{"field": "spec.a", "message": "one"}, {"field": "spec.b", "message": "two"}]);
        assert_eq!(
            told(422, &status),
            "The DaemonSet \"x\" is invalid: \n* spec.a: one\n* spec.b: two"
        );
    }

    #[test]
    fn a_patch_that_is_not_valid_is_not_quoted_whole() {
        let status = json!({"reason": "Invalid", "message": "long", "details": {"causes": [
            {"field": "patch", "message": "Invalid value: \"{\\\"spec\\\":1}\": strict decoding error: unknown field \"spec.x\""}]}});
        assert_eq!(
            told(422, &status),
            "The request is invalid: patch: strict decoding error: unknown field \"spec.x\""
        );
    }

    #[test]
    fn of_several_failures_each_has_a_line() {
        let mut failures = Failures::default();
        failures.note::<()>(Err(anyhow::anyhow!("one")));
        let refused = json!({"reason": "NotFound", "message": "pods \"x\" not found"});
        let refused = ServerError::from_body(404, refused.to_string().as_bytes());
        failures.note::<()>(Err(refused.into()));
        assert_eq!(
            describe(&failures.finish().unwrap_err()),
            "one\nError from server (NotFound): pods \"x\" not found"
        );
        let mut single = Failures::default();
        single.note::<()>(Err(anyhow::anyhow!("one")));
        assert_eq!(describe(&single.finish().unwrap_err()), "error: one");
    }

    #[test]
    fn a_cause_is_not_told_twice() {
        let inner = std::io::Error::other("denied");
        let error = anyhow::Error::new(inner).context("read x: denied");
        assert_eq!(describe(&error), "error: read x: denied");
    }
}
