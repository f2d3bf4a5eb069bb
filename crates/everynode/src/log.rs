//! The log on standard error: its level and format.

use std::fmt;
use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{Format, FormatEvent, FormatFields, Full, Writer};
use tracing_subscriber::registry::LookupSpan;

/// Default filter. `main` prints the errors of the server, so the client library must not log them
/// too.
const DEFAULT_FILTER: &str = "warn,kube_client=off";

/// Flags of every verb.
#[derive(Args, Debug, Clone)]
pub(crate) struct LogArgs {
    /// Log filter: a level (error, warn, info, debug, trace) or TARGET=LEVEL, separated by commas
    #[arg(long = "log", global = true, env = "EVERYNODE_LOG", value_name = "FILTER", default_value = DEFAULT_FILTER, hide_default_value = true, value_parser = filter, help_heading = "Log")]
    filter: String,

    /// Log format
    #[arg(long = "log-format", global = true, value_enum, default_value_t = LogFormat::Text, help_heading = "Log")]
    format: LogFormat,
}

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// One line for each event
    Text,
    /// One JSON object for each event
    Json,
}

impl LogArgs {
    /// Starts the log of this process.
    pub(crate) fn start(&self) {
        let log = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(&self.filter))
            .with_writer(std::io::stderr);
        match self.format {
            LogFormat::Json => log.json().init(),
            LogFormat::Text if is_journal() => log
                .event_format(Journal(Format::default().without_time().with_ansi(false)))
                .init(),
            LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).init(),
        }
    }
}

/// Checks a filter. The library would accept a misspelled level as the name of a target.
fn filter(text: &str) -> Result<String, String> {
    for directive in text
        .split(',')
        .map(str::trim)
        .filter(|directive| !directive.is_empty())
    {
        let level = directive.rsplit_once('=').map_or(directive, |(_, level)| level);
        // The library parses an empty level as `error`.
        if level.is_empty() || LevelFilter::from_str(level).is_err() {
            return Err(format!(
                "{directive:?} is no level (error, warn, info, debug, trace, off) and not TARGET=LEVEL"
            ));
        }
    }
    EnvFilter::try_new(text).map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

/// Returns whether standard error is connected to the journal: systemd sets its device and inode.
fn is_journal() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    let stderr = std::io::stderr().as_fd().try_clone_to_owned().map(File::from);
    let Ok(metadata) = stderr.and_then(|file| file.metadata()) else {
        return false;
    };
    named == format!("{}:{}", metadata.dev(), metadata.ino())
}

/// Log lines with the priority prefix for journald (sd-daemon(3)). The journal adds the time
/// itself.
struct Journal(Format<Full, ()>);

impl<S, N> FormatEvent<S, N> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        write!(writer, "<{priority}>")?;
        self.0.format_event(context, writer, event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filter_with_a_mistake_is_refused() {
        for good in ["info", "warn,apiserver=debug", "off", DEFAULT_FILTER] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in ["inof", "warn,apiserver=loud", "apiserver=", "debug;info"] {
            assert!(filter(bad).is_err(), "{bad}");
        }
    }
}
