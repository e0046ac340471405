use std::time::Duration;

use super::{Link, after};
use crate::{Conn, Error, ErrorKind, Reply, Result, commands::Request};

/// Closes a link, unless it is taken back: an answer may still come over it.
struct Closing<'a>(Option<&'a Link>);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        if let Some(link) = self.0 {
            link.abort();
        }
    }
}

impl Conn {
    /// Sends a request once, on a link that nobody else uses, and has the server wait there until so many replicas have all that it had
    /// written until it answered, at most for `within`; returns the answer as it came, and how many have.
    pub(crate) async fn replicated(
        &self,
        request: &Request,
        replicas: u32,
        within: Duration,
    ) -> Result<(Reply, u64)> {
        let core = self.begun()?;
        let _call = self.enter(1)?;
        let manner = self.manner_of(request);
        let deadline = after(manner.timeout);
        let link = self.blocking_link(&manner.route, deadline).await?;
        let (permit, kept) = link.ok_or_else(|| Error::timeout(Some(manner.timeout)))?;
        let mut closing = Closing(Some(&kept.link));
        let answer = self.answer_once(&kept.link, request, deadline).await?;
        let deadline = after(within.saturating_add(manner.timeout));
        let waited = self.send_once(&kept.link, &Request::Wait(replicas, within), deadline).await?;
        closing.0 = None;
        drop(closing);
        core.blocking.keep(core, kept);
        drop(permit);
        match waited {
            Reply::Int(count) => Ok((answer, count.try_into().unwrap_or(0))),
            _ => {
                let what = "`WAIT` was answered with something else than a number";
                Err(Error::new(ErrorKind::Protocol, what))
            }
        }
    }
}
