//! Which addresses a host's name has: by getent(1), which asks what nsswitch.conf(5) names, as all other programs of
//! the machine do. The launcher cannot itself: it is a static program, and the modules for systemd-resolved, SSSD,
//! LDAP or containers of the machine are made for the machine's own C library.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nix::errno::Errno;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;
use ureq::{Error, Timeout};

use chariot_core::sys::process;
use chariot_core::users;

/// The machine's own way to addresses.
#[derive(Debug)]
pub(super) struct Hosts;

impl Resolver for Hosts {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let host = uri.host().unwrap_or_default();
        // An address is its own; the brackets are those of IPv6. What begins so is an option, and no host.
        let is_address = host.starts_with('[') || host.parse::<IpAddr>().is_ok();
        if is_address || host.starts_with('-') {
            return DefaultResolver::default().resolve(uri, config, timeout);
        }
        let asked = match users::getent("ahosts", host) {
            Ok(asked) => asked,
            // A machine without getent(1) is asked what the library can answer alone.
            Err(_) => {
                process::resolve_hosts_alone();
                return DefaultResolver::default().resolve(uri, config, timeout);
            }
        };
        let patience: Duration = *timeout.after;
        let answer = asked
            .report(patience)
            .map_err(|error| match error.errno() {
                Errno::ETIMEDOUT => Error::Timeout(Timeout::Resolve),
                errno => Error::Io(errno.into()),
            })?;
        let port = port(uri).ok_or(Error::HostNotFound)?;
        let mut found = self.empty();
        for address in addresses(&answer).into_iter().take(MOST) {
            found.push(SocketAddr::new(address, port));
        }
        match found.is_empty() {
            true => Err(Error::HostNotFound),
            false => Ok(found),
        }
    }
}

/// The most addresses that are tried; ureq has room for no more.
const MOST: usize = 16;

/// The port that a place names, or the usual one of its kind.
fn port(uri: &Uri) -> Option<u16> {
    let place = DefaultResolver::host_and_port(uri.scheme()?, uri.authority()?)?;
    place.rsplit_once(':')?.1.parse().ok()
}

/// The addresses in what `getent ahosts` prints, in its order: each on several lines, with kinds of sockets and names.
fn addresses(answer: &str) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = Vec::new();
    for line in answer.lines() {
        let first = line.split_whitespace().next();
        if let Some(address) = first.and_then(|first| first.parse().ok())
            && !found.contains(&address)
        {
            found.push(address);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_is_taken_once_and_in_the_machines_order() {
        let answer = "2001:db8::1     STREAM registry.example.org\n2001:db8::1     DGRAM  \n2001:db8::1     RAW    \n\
                      192.0.2.7       STREAM \n192.0.2.7       DGRAM  \nfe80::1%eth0    STREAM \n";
        let expected: [IpAddr; 2] = ["2001:db8::1".parse().unwrap(), "192.0.2.7".parse().unwrap()];
        assert_eq!(addresses(answer), expected);
        assert_eq!(addresses(""), [] as [IpAddr; 0]);
    }
}
