//! `exp` and `pow` of the C library, which two dependencies call (the resolver's decaying latencies, and
//! a progress bar), from [`libm`]: for them alone every proxy would map the C library's `libm.so`, 0.3 MB
//! of which stay resident.

/// `exp(3)`.
#[unsafe(no_mangle)]
extern "C" fn exp(x: f64) -> f64 {
    libm::exp(x)
}

/// `pow(3)`.
#[unsafe(no_mangle)]
extern "C" fn pow(x: f64, y: f64) -> f64 {
    libm::pow(x, y)
}

#[cfg(test)]
mod tests {
    /// What the standard library calls is what stands above, and right.
    #[test]
    fn floats_of_the_standard_library_are_those_of_libm() {
        let one = std::hint::black_box(1.0_f64);
        assert_eq!(one.exp().to_bits(), libm::exp(1.0).to_bits());
        assert!((one.exp() - std::f64::consts::E).abs() < 1e-15);
        let (two, half) = std::hint::black_box((2.0_f64, 0.5_f64));
        assert_eq!(two.powf(half).to_bits(), libm::pow(2.0, 0.5).to_bits());
        assert!((two.powf(half) - std::f64::consts::SQRT_2).abs() < 1e-15);
    }
}
