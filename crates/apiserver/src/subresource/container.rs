//! Selection of the container for a log or exec.

use api::meta;
use api::status::Status;
use serde_json::Value;

/// Returns the container of `pod` with the requested name, or its only container.
pub(crate) fn container<'a>(pod: &'a Value, asked: Option<&'a str>) -> Result<&'a str, Status> {
    let names = |field: &str| -> Vec<&'a str> {
        let list = pod["spec"][field]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        list.iter()
            .filter_map(|container| container["name"].as_str())
            .collect()
    };
    let (regular, init, ephemeral) = (
        names("containers"),
        names("initContainers"),
        names("ephemeralContainers"),
    );
    let pod = meta::name(pod);
    let Some(asked) = asked else {
        return match regular.as_slice() {
            [only] => Ok(only),
            _ => {
                let mut message = format!(
                    "a container name must be specified for pod {pod}, choose one of: [{}]",
                    regular.join(" ")
                );
                if !init.is_empty() {
                    message.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
                }
                Err(Status::bad_request(message))
            }
        };
    };
    let known = regular
        .iter()
        .chain(&init)
        .chain(&ephemeral)
        .any(|name| *name == asked);
    match known {
        true => Ok(asked),
        false => Err(Status::bad_request(format!(
            "container {asked} is not valid for pod {pod}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn container_must_be_named_when_there_are_several() {
        let one = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}]}});
        assert_eq!(container(&one, None).unwrap(), "a");
        let two = json!({"metadata": {"name": "p"}, "spec": {
            "containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}],
        }});
        assert_eq!(container(&two, Some("i")).unwrap(), "i");
        assert_eq!(
            container(&two, None).unwrap_err().message,
            "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]"
        );
        assert_eq!(
            container(&two, Some("x")).unwrap_err().message,
            "container x is not valid for pod p"
        );
    }
}
