//! What a link says of itself and asks the server before it is used.

use std::time::Duration;

use fred::{error::Error as FredError, interfaces::ClientInterface, types::Value};

use super::{
    lane::Purpose,
    link::{Link, Target},
    together::together,
};
use crate::{
    Config, Result,
    commands::COMMANDS,
    error::fred::{from_call, is_unknown_command},
};

/// How a server tells its connections apart: numbers start anew with each of its processes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ClientId {
    pub(crate) number: String,
    pub(crate) address: String,
}

impl Link {
    /// Says who is calling and what for, and asks what the server calls this connection and which commands it lacks. None
    /// of it is needed for a call to succeed, so refusals are logged and forgotten.
    pub(super) async fn introduce(
        &self,
        config: &Config,
        target: &Target,
    ) -> Result<(Option<ClientId>, Vec<&'static str>)> {
        // The dial as a whole has a deadline.
        let timeout = Duration::ZERO;
        let name = async {
            let Some(name) = &config.client_name else { return Ok(Some(())) };
            granted("CLIENT SETNAME", self.within(timeout).client_setname(name.as_str()).await)
        };
        let reading = async {
            if target.purpose != Purpose::Reads || !config.endpoint.is_cluster() {
                return Ok(Some(()));
            }
            granted("READONLY", self.ask(timeout, "READONLY", &[]).await)
        };
        let asks = target.purpose != Purpose::Questions;
        let client = async { if asks { self.client_id(timeout).await } else { Ok(None) } };
        let unknown =
            async { if asks { self.unknown_commands(timeout).await } else { Ok(Vec::new()) } };
        let (name, reading, client, unknown) = tokio::join!(name, reading, client, unknown);
        name.and(reading)?;
        Ok((client?, unknown?))
    }

    async fn client_id(&self, timeout: Duration) -> Result<Option<ClientId>> {
        let info = granted("CLIENT INFO", self.ask(timeout, "CLIENT", &["INFO"]).await)?;
        Ok(info.and_then(|info: String| ClientId::read(&info)))
    }

    async fn unknown_commands(&self, timeout: Duration) -> Result<Vec<&'static str>> {
        let question: Vec<_> = std::iter::once("INFO").chain(COMMANDS).collect();
        let known = granted("COMMAND INFO", self.ask(timeout, "COMMAND", &question).await)?;
        let is_known = |entry: &Value| entry.array_len().is_some_and(|fields| fields > 0);
        match known {
            Some(Value::Array(known))
                if known.len() == COMMANDS.len() && known.iter().any(is_known) =>
            {
                let pairs = COMMANDS.into_iter().zip(&known);
                let unknown = pairs.filter(|(_, entry)| !is_known(entry));
                Ok(unknown.map(|(name, _)| name).collect())
            }
            // Not every user may ask, and not every proxy answers as servers do.
            _ => self.refused_commands(timeout).await,
        }
    }

    /// The same found out by sending each command without arguments, which no server runs.
    async fn refused_commands(&self, timeout: Duration) -> Result<Vec<&'static str>> {
        let answers = COMMANDS.map(|name| Box::pin(self.ask::<Value>(timeout, name, &[])));
        let mut unknown = Vec::new();
        for (name, answer) in COMMANDS.into_iter().zip(together(answers.into()).await) {
            match answer {
                Err(err) if is_unknown_command(&err) => unknown.push(name),
                answer => granted(name, answer).map(drop)?,
            }
        }
        Ok(unknown)
    }

    /// Finds out whether the user may use `MULTI`: where it is refused, the commands behind it would run one by one.
    pub(super) async fn ask_for_transactions(&mut self, config: &Config) -> Result<()> {
        let plain =
            async |name| self.ask::<()>(config.command_timeout, name, &[]).await.map_err(from_call);
        match plain("MULTI").await {
            Ok(()) => plain("DISCARD").await,
            Err(err) if err.is_answer() => {
                self.no_transactions = Some(err);
                Ok(())
            }
            Err(err) => Err(err),
        }
    }
}

impl ClientId {
    /// Reads a line of `CLIENT INFO`: `id=7 addr=127.0.0.1:50312 …`.
    pub(super) fn read(line: &str) -> Option<Self> {
        let field = |name| line.split(' ').find_map(|field| field.strip_prefix(name));
        let owned = |text: &str| text.trim_end().to_owned();
        Some(Self { number: field("id=").map(owned)?, address: field("addr=").map(owned)? })
    }
}

/// What was answered, unless that was a refusal.
fn granted<T>(what: &'static str, answer: Result<T, FredError>) -> Result<Option<T>> {
    match answer.map_err(from_call) {
        Ok(answer) => Ok(Some(answer)),
        Err(err) if err.is_answer() => {
            tracing::debug!(error = %err, what, "refused while connecting");
            Ok(None)
        }
        Err(err) => Err(err.context(what)),
    }
}
