//! Shows that the mesh simulator finds bugs: plants one after the other and runs default seeds until
//! something does not hold. Built with `--cfg selvedge_canary`, in a target directory of its own;
//! without that there is nothing to find, and it says so. Arguments: the names of bugs, if not all are
//! meant.

#[cfg(not(selvedge_canary))]
fn main() -> std::process::ExitCode {
    eprintln!("built without canaries: RUSTFLAGS=\"--cfg selvedge_canary\" plants them");
    std::process::ExitCode::from(2)
}

#[cfg(selvedge_canary)]
fn main() -> std::process::ExitCode {
    planted::main()
}

#[cfg(selvedge_canary)]
mod planted {
    use std::process::ExitCode;

    use selvedge_core::canary::{Canary, plant};
    use selvedge_proptests::sim::{self, Fault, Faults, Invariant, Scope, Theme};

    /// Default seeds that a bug has to be found in.
    const SEEDS: u64 = 10_000;

    /// The invariant that each bug breaks, and the only one that is judged while it is looked for.
    fn meant(canary: Canary) -> Invariant {
        match canary {
            // Where there is a mirror, nothing that it does excuses how a request ends.
            Canary::SentAfterHead
            | Canary::RepeatedPost
            | Canary::SharedFate
            | Canary::RepeatedAfterGoAway
            | Canary::RetriedPost
            | Canary::RetriedAfterHead => Invariant::EndsOnce,
            Canary::ShortBody
            | Canary::FlippedByte
            | Canary::UnsplicedLast
            | Canary::HastyFin
            | Canary::OvertakingPipe => Invariant::Bodies,
            Canary::UnboundedBuffer | Canary::CrowdedPipe => Invariant::Caps,
            Canary::LeakedCredit
            | Canary::LostResume
            | Canary::LeakedWindow
            | Canary::LeakedPipe
            | Canary::UncountedPipe
            | Canary::MiscountedPipe => Invariant::Credit,
            Canary::MovingDeadline | Canary::LateRetry => Invariant::Deadlines,
            Canary::StuckTimer => Invariant::Progress,
            Canary::LostWakeup
            | Canary::LeakedExchange
            | Canary::LostReset
            | Canary::OpenStream => Invariant::Drains,
            Canary::RemovedPicked | Canary::LostLoad => Invariant::Load,
            Canary::OtherDice => Invariant::Determinism,
            Canary::Panic => Invariant::Hostile,
            Canary::ForgottenEndpoints => Invariant::LastKnown,
            Canary::NoBudget | Canary::NoLimit => Invariant::Budget,
            Canary::OneShare
            | Canary::AlwaysInjected
            | Canary::EvenShares
            | Canary::JudgedShares
            | Canary::Unrouted => Invariant::Routed,
            Canary::SeededHash
            | Canary::MovingKeys
            | Canary::NoLoadBound
            | Canary::NoZones
            | Canary::NoSlowStart
            | Canary::SkippedTurns => Invariant::Balanced,
            Canary::LostSlot
            | Canary::LastFirst
            | Canary::OvertakingStream
            | Canary::PatientQueue
            | Canary::LongQueue
            | Canary::WideGate
            | Canary::NarrowGate
            | Canary::NarrowProxy
            | Canary::WholeShare
            | Canary::ThinPort
            | Canary::WideLimit => Invariant::Bounded,
            Canary::DoubleRate | Canary::HalfRate | Canary::ThinRate => Invariant::Admitted,
            Canary::NoFloor
            | Canary::BlamedForCancel
            | Canary::EjectedForEver
            | Canary::ManyProbes => Invariant::Ejected,
            Canary::LingeringCheck
            | Canary::CheckedOnce
            | Canary::EndlessCheck
            | Canary::UnhealthyPicked => Invariant::Checked,
            Canary::EndlessPanic => Invariant::Panic,
            Canary::AnyIdentity | Canary::OpenPort | Canary::RotationDrops => Invariant::Identified,
            Canary::StaleId => Invariant::Stale,
            Canary::RepeatedHints => Invariant::Informed,
        }
    }

    /// The worlds in which a bug is looked for: those that it is about, where most are not.
    fn scope(canary: Canary) -> Scope {
        let (theme, with): (_, &[Fault]) = match canary {
            Canary::LateRetry => (None, &[Fault::Retries]),
            Canary::SeededHash | Canary::MovingKeys | Canary::NoLoadBound => {
                (None, &[Fault::Sticky])
            }
            Canary::NoZones => (None, &[Fault::Zones]),
            Canary::NoSlowStart => (Some(Theme::Outage), &[Fault::Balancers, Fault::SlowStarts]),
            Canary::SkippedTurns => (None, &[Fault::Balancers]),
            Canary::LastFirst
            | Canary::OvertakingStream
            | Canary::PatientQueue
            | Canary::LongQueue
            | Canary::WideGate
            | Canary::NarrowGate
            | Canary::NarrowProxy
            | Canary::WholeShare
            | Canary::ThinPort => (None, &[Fault::Gates]),
            Canary::RepeatedHints => (None, &[Fault::Retries, Fault::AppHints]),
            Canary::WideLimit => (None, &[Fault::Adaptive]),
            Canary::DoubleRate | Canary::HalfRate | Canary::ThinRate => {
                (None, &[Fault::RateLimits])
            }
            Canary::JudgedShares => (Some(Theme::OneBad), &[Fault::Splits]),
            Canary::NoFloor | Canary::EjectedForEver => (Some(Theme::Outage), &[]),
            Canary::BlamedForCancel => (Some(Theme::Impatient), &[]),
            Canary::ManyProbes | Canary::UnhealthyPicked => (Some(Theme::OneBad), &[]),
            Canary::LingeringCheck => (Some(Theme::Flapping), &[Fault::Endpoints]),
            Canary::CheckedOnce => (Some(Theme::Flapping), &[]),
            Canary::EndlessCheck => (Some(Theme::OneBad), &[Fault::ConnectHangs]),
            Canary::EndlessPanic => (Some(Theme::Herd), &[]),
            Canary::RetriedAfterHead => (None, &[Fault::Retries, Fault::AppResetsStream]),
            Canary::AnyIdentity => (None, &[Fault::CertifyOther]),
            Canary::OpenPort => (None, &[Fault::Denied]),
            Canary::RotationDrops => (None, &[Fault::Rotation]),
            Canary::UnsplicedLast => (None, &[Fault::Bulk, Fault::PipesRecalled, Fault::ReadAhead]),
            Canary::HastyFin => (None, &[Fault::Bulk, Fault::ReadAhead]),
            Canary::LeakedPipe
            | Canary::OvertakingPipe
            | Canary::CrowdedPipe
            | Canary::UncountedPipe
            | Canary::MiscountedPipe => (None, &[Fault::Bulk]),
            _ => (None, &[]),
        };
        let only = Some(meant(canary));
        Scope { theme, with: Faults::of(with), only, ..Scope::SEED }
    }

    /// Which worlds these are, as `sim` takes it.
    fn worlds(scope: &Scope) -> String {
        let theme = scope.theme.map(|theme| format!("--world {}", theme.name()));
        let with = scope.with.iter().map(|fault| format!("--with {:?}", fault.name()));
        theme.into_iter().chain(with).collect::<Vec<_>>().join(" ")
    }

    pub(crate) fn main() -> ExitCode {
        // A panic is what one of them is about; there is no need to read it.
        std::panic::set_hook(Box::new(|_| {}));
        plant(None);
        if let Some((seed, violation)) = sim::first_violation(0..100, &Scope::SEED) {
            println!("without a bug, seed {seed}: {violation}");
            return ExitCode::FAILURE;
        }
        let wanted: Vec<String> = std::env::args().skip(1).collect();
        println!("{:<48} {:>6}  {:<28} how", "planted", "seed", "caught by");
        let mut caught = [false; Invariant::ALL.len()];
        let mut missed = 0;
        for &canary in Canary::ALL {
            let name = canary.name().trim_start_matches("selvedge-canary: ");
            if !wanted.is_empty() && !wanted.iter().any(|wanted| wanted == name) {
                continue;
            }
            plant(Some(canary));
            let scope = scope(canary);
            let found = sim::first_violation(0..SEEDS, &scope);
            let Some((seed, violation)) = found else {
                println!("{name:<48} {:>6}  NOT CAUGHT", "-");
                missed += 1;
                continue;
            };
            plant(None);
            let all = Scope { only: None, ..scope };
            if let Some((_, violation)) = sim::first_violation([seed], &all) {
                println!("without {name}, seed {seed}: {violation}");
                missed += 1;
            }
            let invariant = violation.invariant;
            let how: String = violation.message.chars().take(70).collect();
            println!("{name:<48} {seed:>6}  {:<28} {how}", invariant.to_string());
            let worlds = worlds(&scope);
            if !worlds.is_empty() {
                println!("{:<48} {:>6}  {worlds}", "", "");
            }
            caught[invariant as usize] = true;
        }
        for invariant in Invariant::ALL.into_iter().filter(|_| wanted.is_empty()) {
            if !caught[invariant as usize] {
                println!("no bug trips {invariant}");
                missed += 1;
            }
        }
        if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
