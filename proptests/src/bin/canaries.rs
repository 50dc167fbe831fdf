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
    use selvedge_proptests::sim::{self, Fault, Invariant, Scope, Theme};

    /// Default seeds that a bug has to be found in.
    const SEEDS: u64 = 10_000;

    /// The invariant that each bug breaks. Where a bug breaks two, either may be noticed first.
    fn meant(canary: Canary) -> &'static [Invariant] {
        match canary {
            // The second answer arrives in the middle of the first one's body.
            Canary::SentAfterHead => &[Invariant::EndsOnce, Invariant::Bodies],
            // Where there is a mirror, nothing that it does excuses how a request ends.
            Canary::RepeatedPost | Canary::SharedFate => &[Invariant::EndsOnce],
            // The first answer comes on a stream that the proxy has given up.
            Canary::RepeatedAfterGoAway => &[Invariant::EndsOnce, Invariant::Bodies],
            Canary::ShortBody | Canary::FlippedByte => &[Invariant::Bodies],
            Canary::UnboundedBuffer => &[Invariant::Caps],
            Canary::LeakedCredit | Canary::LostResume | Canary::LeakedWindow => {
                &[Invariant::Credit]
            }
            Canary::MovingDeadline => &[Invariant::Deadlines],
            Canary::StuckTimer => &[Invariant::Progress],
            // Who waits for it either waits for ever, or is given up.
            Canary::LostWakeup => &[Invariant::Drains, Invariant::EndsOnce],
            // What is left is also counted.
            Canary::LeakedExchange => &[Invariant::Drains, Invariant::Load],
            Canary::LostReset => &[Invariant::Drains],
            // In the end who sent it resets it.
            Canary::OpenStream => &[Invariant::Drains, Invariant::EndsOnce],
            Canary::RemovedPicked | Canary::LostLoad => &[Invariant::Load],
            Canary::OtherDice => &[Invariant::Determinism],
            Canary::Panic => &[Invariant::Hostile],
            Canary::ForgottenEndpoints => &[Invariant::LastKnown],
            Canary::NoBudget | Canary::NoLimit => &[Invariant::Budget],
            Canary::RetriedPost => &[Invariant::EndsOnce],
            Canary::LateRetry => &[Invariant::Deadlines],
            Canary::OneShare | Canary::AlwaysInjected | Canary::EvenShares | Canary::Unrouted => {
                &[Invariant::Routed]
            }
            Canary::SeededHash
            | Canary::MovingKeys
            | Canary::NoLoadBound
            | Canary::NoZones
            | Canary::SkippedTurns => &[Invariant::Balanced],
            // What is counted by nobody is also counted wrong.
            Canary::LostSlot => &[Invariant::Bounded, Invariant::Load],
            Canary::LastFirst
            | Canary::PatientQueue
            | Canary::LongQueue
            | Canary::WideGate
            | Canary::WideLimit => &[Invariant::Bounded],
            Canary::DoubleRate => &[Invariant::Admitted],
            Canary::NoFloor
            | Canary::BlamedForCancel
            | Canary::EjectedForEver
            | Canary::ManyProbes => &[Invariant::Ejected],
            Canary::LingeringCheck
            | Canary::CheckedOnce
            | Canary::EndlessCheck
            | Canary::UnhealthyPicked => &[Invariant::Checked],
            Canary::EndlessPanic => &[Invariant::Panic],
            // Bytes of one connection are counted, or read, as another's.
            // A late report of a write may be the first to be acted upon: it must do no harm.
            Canary::StaleId => {
                &[Invariant::Credit, Invariant::EndsOnce, Invariant::Bodies, Invariant::Hostile]
            }
        }
    }

    /// The worlds in which a bug is looked for: those that it is about, where most are not.
    fn scope(canary: Canary) -> Scope {
        let (theme, with) = match canary {
            Canary::LateRetry => (None, Some(Fault::Retries)),
            Canary::SeededHash | Canary::MovingKeys | Canary::NoLoadBound => {
                (None, Some(Fault::Sticky))
            }
            Canary::NoZones => (None, Some(Fault::Zones)),
            Canary::SkippedTurns => (None, Some(Fault::Balancers)),
            Canary::LastFirst | Canary::PatientQueue | Canary::LongQueue | Canary::WideGate => {
                (None, Some(Fault::Gates))
            }
            Canary::WideLimit => (None, Some(Fault::Adaptive)),
            Canary::DoubleRate => (None, Some(Fault::RateLimits)),
            Canary::NoFloor | Canary::EjectedForEver => (Some(Theme::Outage), None),
            Canary::BlamedForCancel => (Some(Theme::Impatient), None),
            Canary::ManyProbes | Canary::UnhealthyPicked => (Some(Theme::OneBad), None),
            Canary::LingeringCheck => (Some(Theme::Flapping), Some(Fault::Endpoints)),
            Canary::CheckedOnce => (Some(Theme::Flapping), None),
            Canary::EndlessCheck => (Some(Theme::OneBad), Some(Fault::ConnectHangs)),
            Canary::EndlessPanic => (Some(Theme::Herd), None),
            _ => (None, None),
        };
        Scope { theme, with, ..Scope::SEED }
    }

    /// Which worlds these are, as `sim` takes it.
    fn worlds(scope: &Scope) -> String {
        let theme = scope.theme.map(|theme| format!("--world {}", theme.name()));
        let with = scope.with.map(|fault| format!("--with {:?}", fault.name()));
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
            if let Some((_, violation)) = sim::first_violation([seed], &scope) {
                println!("without {name}, seed {seed}: {violation}");
                missed += 1;
            }
            let invariant = violation.invariant;
            let how: String = violation.message.chars().take(70).collect();
            println!("{name:<48} {seed:>6}  {:<28} {how}", invariant.to_string());
            if scope != Scope::SEED {
                println!("{:<48} {:>6}  {}", "", "", worlds(&scope));
            }
            if meant(canary).contains(&invariant) {
                caught[invariant as usize] = true;
            } else {
                println!("{:<48} {:>6}  meant for {:?}", "", "", meant(canary));
                missed += 1;
            }
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
