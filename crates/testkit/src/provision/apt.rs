use std::{
    collections::HashMap,
    fmt::Write as _,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Want, cache, run::run};
use crate::{Kind, Version};

/// Fetches a server from the archive that this machine's own apt is set up for, into a directory of ours.
///
/// The private apt takes an empty machine for granted, so that every library comes along; the server then runs by the
/// dynamic loader that came with it, and neither its age nor the host's matters.
pub(super) fn fetch(
    want: Want,
    progress: &mut dyn FnMut(&str),
) -> Result<(PathBuf, Version), String> {
    if !cfg!(target_os = "linux") {
        return Err("this is no Linux".into());
    }
    for tool in ["apt-get", "dpkg", "dpkg-deb"] {
        run(Command::new(tool).arg("--version"))?;
    }
    let host = Host::read()?;
    let candidates = host.candidates(want);
    if candidates.is_empty() {
        return Err(format!("no suite of {} carries {want}", host.archive));
    }
    let mut reasons = Vec::new();
    for (suite, package) in candidates {
        let kept = cache::keep(want, progress, |dir, progress| {
            progress(&format!("looking for {package} in {suite} at {}", host.archive));
            Private::open(dir, &host, &suite)?.install(package, want, progress)
        });
        match kept {
            Ok(found) => return Ok(found),
            Err(reason) => reasons.push(format!("{suite}: {reason}")),
        }
    }
    Err(reasons.join("; "))
}

/// What this machine's apt is set up for.
struct Host {
    debian: bool,
    archive: String,
    suite: String,
    architecture: String,
    keyring: Option<PathBuf>,
}

impl Host {
    fn read() -> Result<Self, String> {
        let os: HashMap<String, String> = fs::read_to_string("/etc/os-release")
            .map_err(|err| format!("reading /etc/os-release: {err}"))?
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.into(), value.trim_matches('"').into()))
            .collect();
        let id = os.get("ID").cloned().unwrap_or_default();
        let codename = os.get("UBUNTU_CODENAME").or_else(|| os.get("VERSION_CODENAME"));

        // Reads every form of source list, and needs neither the network nor rights.
        let uris = run(Command::new("apt-get").args(["update", "--print-uris"]))?;
        let mut suites = uris.lines().filter_map(|line| {
            let (archive, suite) =
                line.strip_prefix('\'')?.split_once("/InRelease'")?.0.rsplit_once("/dists/")?;
            Some((archive.to_owned(), suite.to_owned()))
        });
        let all: Vec<_> = suites.by_ref().collect();
        let (archive, suite) = all
            .iter()
            .find(|(_, suite)| Some(suite) == codename)
            .or_else(|| {
                all.iter()
                    .find(|(_, suite)| ["stable", "testing", "unstable", "sid"].contains(&&**suite))
            })
            .cloned()
            .ok_or("apt is set up for no archive of this distribution")?;
        let keyrings = [id.as_str(), "debian", "ubuntu"]
            .map(|id| PathBuf::from(format!("/usr/share/keyrings/{id}-archive-keyring.gpg")));
        Ok(Self {
            debian: id == "debian",
            archive,
            suite,
            architecture: run(Command::new("dpkg").arg("--print-architecture"))?.trim().into(),
            // Without one, apt's own trusted keys count.
            keyring: keyrings.into_iter().find(|path| path.is_file()),
        })
    }

    /// Suites and packages that may hold what is wanted, the likeliest first.
    fn candidates(&self, want: Want) -> Vec<(String, &'static str)> {
        let named: &[(&str, &'static str)] = match want {
            Want::Redis7_0 => &[("bookworm", "redis-server")],
            Want::Redis8 => &[("trixie", "redis-server"), ("sid", "redis-server")],
            Want::Valkey8 => &[("trixie", "valkey-server")],
            Want::Valkey9 => &[("forky", "valkey-server"), ("sid", "valkey-server")],
            Want::Redis6_2 | Want::Any => &[],
        };
        let own: &[&'static str] = match want {
            Want::Redis6_2 => &[],
            Want::Redis7_0 | Want::Redis8 => &["redis-server"],
            Want::Valkey8 | Want::Valkey9 => &["valkey-server"],
            Want::Any => &["redis-server", "valkey-server"],
        };
        if self.debian && !named.is_empty() {
            return named.iter().map(|&(suite, package)| (suite.into(), package)).collect();
        }
        own.iter().map(|&package| (self.suite.clone(), package)).collect()
    }
}

/// An apt of our own below one directory.
struct Private {
    dir: PathBuf,
    work: PathBuf,
    architecture: String,
}

impl Private {
    fn open(dir: &Path, host: &Host, suite: &str) -> Result<Self, String> {
        let work = dir.join("apt");
        for sub in ["lists/partial", "archives/partial", "state", "log", "debs"] {
            fs::create_dir_all(work.join(sub))
                .map_err(|err| format!("creating {}: {err}", work.display()))?;
        }
        let Host { archive, architecture, .. } = host;
        let signed = host
            .keyring
            .as_ref()
            .map(|path| format!(" signed-by={}", path.display()))
            .unwrap_or_default();
        let components = if host.debian { "main" } else { "main universe" };
        let sources = format!("deb [arch={architecture}{signed}] {archive} {suite} {components}\n");

        let at = work.display();
        let mut config = format!(
            r#"Dir::Etc::sourcelist "{at}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "{at}/state";
Dir::State::lists "{at}/lists";
Dir::State::status "{at}/status";
Dir::State::extended_states "{at}/extended_states";
Dir::Cache "{at}";
Dir::Cache::archives "{at}/archives";
Dir::Log "{at}/log";
APT::Sandbox::User "";
APT::Install-Recommends "false";
APT::Architecture "{architecture}";
Debug::NoLocking "true";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::Retries "1";
APT::Update::Error-Mode "any";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
"#
        );
        // The host's own hooks would clean or index the host's system.
        for hook in [
            "APT::Update::Pre-Invoke",
            "APT::Update::Post-Invoke",
            "APT::Update::Post-Invoke-Success",
        ] {
            let _ = writeln!(config, "#clear {hook};");
        }
        // Mirrors carry the moving suite past its date now and then. Its signature is checked all the same.
        if suite == "sid" {
            config.push_str("Acquire::Check-Valid-Until \"false\";\n");
        }
        // No status: an empty machine, so that every library is fetched.
        for (name, text) in [("sources.list", &*sources), ("apt.conf", &config), ("status", "")] {
            fs::write(work.join(name), text).map_err(|err| format!("writing {name}: {err}"))?;
        }
        Ok(Self { dir: dir.into(), work, architecture: architecture.clone() })
    }

    fn install(
        &self,
        package: &str,
        want: Want,
        progress: &mut dyn FnMut(&str),
    ) -> Result<(), String> {
        run(self.apt_get().args(["update", "-qq"]))?;
        let plan = run(self.apt_get().args(["install", "--print-uris", "-qq", "-y", package]))?;
        let files: Vec<_> = plan.lines().filter_map(planned).collect();
        let version = files
            .iter()
            .find_map(|(file, _)| file.strip_prefix(package)?.strip_prefix('_')?.split('_').next())
            .ok_or_else(|| format!("apt's plan does not hold {package}"))?;
        // An epoch comes first: 5%3a7.0.15-1.
        let version = version.rsplit("%3a").next().unwrap_or(version);
        let kind = if package.starts_with("valkey") { Kind::Valkey } else { Kind::Redis };
        let numbers = Version::from_numbers(kind, version)
            .ok_or_else(|| format!("{version} is no version"))?;
        if !want.accepts(&numbers) {
            return Err(format!("carries {numbers}, not {want}"));
        }

        let (needed, sizes): (Vec<_>, Vec<u64>) = files
            .iter()
            .filter_map(|(file, size)| Some((file.split('_').next()?, *size)))
            .filter(|(name, _)| is_needed(name))
            .unzip();
        let megabytes = sizes.into_iter().sum::<u64>().div_ceil(1_000_000);
        progress(&format!(
            "fetching {numbers} in {} packages, {megabytes} MB, without installing anything",
            needed.len()
        ));
        let debs = self.work.join("debs");
        run(self.apt_get().args(["download", "-qq"]).args(&needed).current_dir(&debs))?;
        let root = self.dir.join("root");
        for deb in
            fs::read_dir(&debs).map_err(|err| format!("reading {}: {err}", debs.display()))?
        {
            let deb = deb.map_err(|err| err.to_string())?.path();
            run(Command::new("dpkg-deb").arg("-x").arg(deb).arg(&root))?;
        }
        self.wrap(&root, package)?;
        // What is not the server's or a library's.
        for rest in [self.work.clone(), root.join("usr/share"), root.join("etc"), root.join("var")]
        {
            let _ = fs::remove_dir_all(rest);
        }
        Ok(())
    }

    /// Writes the script that runs the server by its own dynamic loader.
    fn wrap(&self, root: &Path, package: &str) -> Result<(), String> {
        let libs: Vec<_> = ["lib", "usr/lib"]
            .iter()
            .flat_map(|lib| fs::read_dir(root.join(lib)).into_iter().flatten().flatten())
            .map(|entry| entry.path())
            .filter(|path| {
                path.is_dir() && path.to_string_lossy().ends_with(triplet_end(&self.architecture))
            })
            .collect();
        let loader = libs
            .iter()
            .flat_map(|lib| fs::read_dir(lib).into_iter().flatten().flatten())
            .map(|entry| entry.path())
            .find(|path| {
                path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ld-linux"))
            })
            .ok_or("the C library came without its loader")?;
        let here = |path: &Path| {
            format!("\"$here\"/{}", path.strip_prefix(&self.dir).unwrap_or(path).display())
        };
        let libs: Vec<_> = libs.iter().map(|lib| here(lib)).collect();
        let script = format!(
            "#!/bin/sh\nhere=${{0%/*}}\nexec {} --library-path {} {} \"$@\"\n",
            here(&loader),
            libs.join(":"),
            here(&root.join("usr/bin").join(package)),
        );
        let path = self.dir.join(package);
        fs::write(&path, script)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
            .map_err(|err| format!("writing {}: {err}", path.display()))
    }

    fn apt_get(&self) -> Command {
        let mut command = Command::new("apt-get");
        // By option and not by APT_CONFIG, to come after the host's own settings (proxies and the like), which stay.
        command.arg("-c").arg(self.work.join("apt.conf"));
        command
    }
}

/// A file and its size in bytes, of a line of apt's plan: `'<uri>' <file> <size> <hash>`.
fn planned(line: &str) -> Option<(&str, u64)> {
    let mut words = line.split_whitespace().skip(1);
    Some((words.next()?, words.next()?.parse().ok()?))
}

/// Whether a package of the plan is the server or a library that it may load; the rest serves installation.
fn is_needed(name: &str) -> bool {
    let library = name.starts_with("lib") || name.starts_with("zlib");
    let other =
        ["libperl", "libpam", "libc-gconv", "libdebconf", "libsemanage", "libgdbm", "libdb5"];
    let server = ["redis", "valkey"].iter().any(|server| name.starts_with(server));
    server
        || library && !name.ends_with("-perl") && !other.iter().any(|other| name.starts_with(other))
}

/// How the names of library folders end.
fn triplet_end(architecture: &str) -> &'static str {
    if architecture == "armhf" { "-linux-gnueabihf" } else { "-linux-gnu" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_plan() {
        let line = "'http://archive/pool/r/redis_7.0.deb' redis-server_5%3a7.0.15_amd64.deb 72648 SHA256:0";
        assert_eq!(planned(line), Some(("redis-server_5%3a7.0.15_amd64.deb", 72_648)));
        assert_eq!(planned("NOTE: no line of a plan"), None);
    }

    #[test]
    fn takes_libraries_and_leaves_the_tools_of_installation() {
        for name in ["libc6", "libssl3t64", "zlib1g", "redis-tools", "valkey-server"] {
            assert!(is_needed(name), "{name}");
        }
        for name in [
            "adduser",
            "perl-base",
            "libperl5.36",
            "libtext-glob-perl",
            "debconf",
            "libpam0g",
            "systemd",
        ] {
            assert!(!is_needed(name), "{name}");
        }
    }
}
