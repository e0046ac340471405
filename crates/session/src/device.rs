use std::{fmt, net::IpAddr};

/// What a session was begun from: shown to its user, and a hint when it is used from elsewhere.
///
/// ```
/// use redbrick_session::Device;
///
/// let phone = Device::new().user_agent("Mozilla/5.0 (Android 16)").ip([192, 0, 2, 7]);
/// assert_eq!(phone.ip.unwrap().to_string(), "192.0.2.7");
/// ```
#[derive(Clone, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub struct Device {
    /// What the client calls itself.
    pub user_agent: Option<String>,
    /// The address that it came from.
    pub ip: Option<IpAddr>,
}

impl Device {
    /// One of which nothing is known yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what the client calls itself, of any length: cut it where that is too long for you.
    ///
    /// Default: unknown.
    #[must_use]
    pub fn user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.user_agent = Some(user_agent.into());
        self
    }

    /// Sets the address that it came from.
    ///
    /// Default: unknown.
    #[must_use]
    pub fn ip(mut self, ip: impl Into<IpAddr>) -> Self {
        self.ip = Some(ip.into());
        self
    }
}

impl fmt::Debug for Device {
    /// Shows nothing of a person.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device").finish_non_exhaustive()
    }
}
