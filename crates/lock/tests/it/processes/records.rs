//! What was noted, and what it says.

#![expect(clippy::unwrap_used, reason = "a part of the test")]

use std::fmt;

use redbrick_testkit::Server;

use super::Kind;

/// So many are read at a time.
const SOME: usize = 10_000;

pub(super) struct Records {
    grants: Vec<Grant>,
    refused: Vec<Refused>,
    /// By what they are of, with how much there is of it.
    sections: Vec<(&'static str, u32, Vec<Section>)>,
}

/// What somebody has asked for and was granted between two moments.
#[derive(Clone, Copy)]
struct Grant {
    asked: u64,
    used: u64,
    fence: u64,
}

/// A write that was refused.
#[derive(Clone, Copy)]
struct Refused {
    moment: u64,
    fence: u64,
    highest: u64,
    /// Whether its writer relied on what it had, before and after.
    valid: bool,
    process: u64,
}

/// Between two moments somebody relied on what it had.
#[derive(Clone, Copy)]
struct Section {
    first: u64,
    last: u64,
    weight: u32,
    fence: u64,
    process: u64,
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { asked, used, fence } = self;
        write!(f, "{fence}, asked for at {asked}, used at {used}")
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { moment, fence, highest, process, .. } = self;
        write!(f, "{fence} behind {highest} at {moment} in process {process}")
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last, weight, fence, process } = self;
        write!(f, "{weight} with {fence} from {first} to {last} in process {process}")
    }
}

impl Records {
    pub(super) fn read(source: &Server) -> Self {
        let grants = numbers(source, "grants");
        let grants = grants.iter().map(|&[asked, used, fence]| Grant { asked, used, fence });
        let refused = numbers(source, "refused").into_iter();
        let refused = refused.map(|[moment, fence, highest, valid, process]| Refused {
            moment,
            fence,
            highest,
            valid: valid == 1,
            process,
        });
        let of = |kind: Kind| {
            let (what, _, all) = kind.share();
            let sections = numbers(source, &format!("sections:{what}")).into_iter();
            let sections = sections.map(|[first, last, weight, fence, process]| Section {
                first,
                last,
                weight: weight.try_into().unwrap(),
                fence,
                process,
            });
            (what, all, sections.collect())
        };
        let sections = [Kind::Lock, Kind::Read, Kind::Permits(1)].map(of).into();
        Self { grants: grants.collect(), refused: refused.collect(), sections }
    }

    pub(super) fn grants(&self) -> usize {
        self.grants.len()
    }

    /// What must not have happened, but where two may have it between such moments.
    pub(super) fn violations(&self, exempt: &[(u64, u64)]) -> Vec<String> {
        let mut all = self.falls();
        let is_exempt = |first: u64, last: u64| {
            exempt.iter().any(|(before, after)| *before <= first && last <= *after)
        };
        let refused = self.refused.iter();
        let refused = refused.filter(|one| one.valid && !is_exempt(one.moment, one.moment));
        all.extend(refused.map(|one| format!("refused while it was relied on: {one}")));
        for (what, most, sections) in &self.sections {
            all.extend(overlaps(sections, *most, &is_exempt).map(|both| format!("{what}: {both}")));
        }
        all
    }

    /// The fences that are not higher than one that was used before they were asked for.
    fn falls(&self) -> Vec<String> {
        let mut all = Vec::new();
        let (mut asked, mut used) = (self.grants.clone(), self.grants.clone());
        asked.sort_by_key(|grant| grant.asked);
        used.sort_by_key(|grant| grant.used);
        let mut earlier = used.iter().peekable();
        let mut highest: Option<Grant> = None;
        for grant in &asked {
            while let Some(before) = earlier.next_if(|before| before.used < grant.asked) {
                highest =
                    Some(highest.map_or(*before, |highest| match highest.fence < before.fence {
                        true => *before,
                        false => highest,
                    }));
            }
            if let Some(before) = highest.filter(|before| before.fence >= grant.fence) {
                all.push(format!("the fence has not risen: {before}; {grant}"));
            }
        }
        asked.sort_by_key(|grant| grant.fence);
        let same = asked.windows(2).filter(|both| both[0].fence == both[1].fence);
        all.extend(same.map(|both| format!("twice the same fence: {}; {}", both[0], both[1])));
        all
    }
}

/// Where more was relied on at a time than there is.
fn overlaps(
    sections: &[Section],
    most: u32,
    is_exempt: &impl Fn(u64, u64) -> bool,
) -> impl Iterator<Item = String> {
    let ends = sections.iter().flat_map(|one| [(one.first, true, one), (one.last, false, one)]);
    let mut ends: Vec<_> = ends.collect();
    ends.sort_by_key(|(moment, ..)| *moment);
    let (mut open, mut all): (Vec<&Section>, _) = (Vec::new(), Vec::new());
    for (at, (moment, opens, section)) in ends.iter().enumerate() {
        match opens {
            true => open.push(section),
            false => open.retain(|one| one.first != section.first),
        }
        let out: u32 = open.iter().map(|one| one.weight).sum();
        let next = ends.get(at + 1).map_or(*moment, |(next, ..)| *next);
        if out > most && !is_exempt(*moment, next) {
            let open: Vec<_> = open.iter().map(ToString::to_string).collect();
            all.push(format!("{out} of {most} at {moment}: {}", open.join("; ")));
        }
    }
    all.into_iter()
}

/// The records of a list, in which numbers stand.
fn numbers<const N: usize>(source: &Server, list: &str) -> Vec<[u64; N]> {
    let mut all = Vec::new();
    loop {
        let [first, last] = [all.len(), all.len() + SOME - 1].map(|at| at.to_string());
        let some = source.command(["LRANGE", list, &first, &last]).unwrap();
        let some = some.as_array().unwrap();
        if some.is_empty() {
            return all;
        }
        for record in some {
            let numbers = record.as_str().unwrap().split(' ').map(|number| number.parse().unwrap());
            all.push(numbers.collect::<Vec<_>>().try_into().unwrap());
        }
    }
}
