//! The hash function xxHash64.

const PRIME_1: u64 = 0x9e37_79b1_85eb_ca87;
const PRIME_2: u64 = 0xc2b2_ae3d_27d4_eb4f;
const PRIME_3: u64 = 0x1656_67b1_9e37_79f9;
const PRIME_4: u64 = 0x85eb_ca77_c2b2_ae63;
const PRIME_5: u64 = 0x27d4_eb2f_1656_67c5;

/// The xxHash64 of `data`, as its [specification] says.
///
/// It is good at spreading, and no protection against somebody who looks for collisions.
///
/// [specification]: https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md#xxh64-algorithm-description
pub(crate) fn xx_hash64(data: &[u8], seed: u64) -> u64 {
    let (stripes, rest) = data.as_chunks::<32>();
    let start = if stripes.is_empty() { seed.wrapping_add(PRIME_5) } else { of_stripes(stripes, seed) };
    // A length fits into 64 bits wherever this is built.
    finish(of_rest(rest, start.wrapping_add(data.len() as u64)))
}

fn of_stripes(stripes: &[[u8; 32]], seed: u64) -> u64 {
    let mut lanes = [
        seed.wrapping_add(PRIME_1).wrapping_add(PRIME_2),
        seed.wrapping_add(PRIME_2),
        seed,
        seed.wrapping_sub(PRIME_1),
    ];
    for stripe in stripes {
        let (words, _) = stripe.as_chunks::<8>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane = round(*lane, u64::from_le_bytes(*word));
        }
    }
    let [first, second, third, fourth] = lanes;
    let mixed = first
        .rotate_left(1)
        .wrapping_add(second.rotate_left(7))
        .wrapping_add(third.rotate_left(12))
        .wrapping_add(fourth.rotate_left(18));
    lanes.into_iter().fold(mixed, |hash, lane| (hash ^ round(0, lane)).wrapping_mul(PRIME_1).wrapping_add(PRIME_4))
}

/// Adds what is left after the stripes: words of eight bytes, at most one of four, and single bytes.
fn of_rest(rest: &[u8], hash: u64) -> u64 {
    let (words, rest) = rest.as_chunks::<8>();
    let (halves, bytes) = rest.as_chunks::<4>();
    let hash = words.iter().fold(hash, |hash, word| {
        let mixed = hash ^ round(0, u64::from_le_bytes(*word));
        mixed.rotate_left(27).wrapping_mul(PRIME_1).wrapping_add(PRIME_4)
    });
    let hash = halves.iter().fold(hash, |hash, half| {
        let mixed = hash ^ u64::from(u32::from_le_bytes(*half)).wrapping_mul(PRIME_1);
        mixed.rotate_left(23).wrapping_mul(PRIME_2).wrapping_add(PRIME_3)
    });
    bytes
        .iter()
        .fold(hash, |hash, byte| (hash ^ u64::from(*byte).wrapping_mul(PRIME_5)).rotate_left(11).wrapping_mul(PRIME_1))
}

fn round(lane: u64, word: u64) -> u64 {
    lane.wrapping_add(word.wrapping_mul(PRIME_2)).rotate_left(31).wrapping_mul(PRIME_1)
}

fn finish(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 33)).wrapping_mul(PRIME_2);
    let hash = (hash ^ (hash >> 29)).wrapping_mul(PRIME_3);
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the reference implementation gives for the bytes 0, 1, 2 ... of some length, with the seeds 0 and 1.
    const REFERENCE: [(usize, u64, u64); 15] = [
        (0, 0xef46_db37_51d8_e999, 0xd5af_ba13_36a3_be4b),
        (1, 0xe934_a84a_db05_2768, 0x7719_17c7_f6ee_2451),
        (3, 0xe5c7_bb45_33bc_65dd, 0xa216_8d89_c582_b451),
        (4, 0xffce_d860_4453_cc1e, 0x9450_6f8c_7e58_70a9),
        (7, 0x14cc_643f_630c_72d2, 0xaf4c_5311_c47c_77b7),
        (8, 0x884a_1736_14b8_1b8d, 0x9d2b_7c73_54fe_4e23),
        (12, 0x424a_f23f_1f08_dca5, 0x797c_f4fa_c65d_4c13),
        (15, 0xa948_f5f0_f6ab_ac2d, 0xc60a_a959_76ed_0e4e),
        (16, 0x44b6_ef2f_b841_69f7, 0xdd42_30f4_7b0d_28c1),
        (31, 0xc346_d2b5_9b4d_8ee1, 0xf031_031d_6597_7dfc),
        (32, 0xcbf5_9c51_16ff_32b4, 0xd74e_6766_ce9d_ba94),
        (33, 0x0c53_5d1a_cafb_8ead, 0xa371_825f_4210_fe99),
        (63, 0xe26a_a9e2_a95f_8e4f, 0x5264_ec07_19e1_0595),
        (64, 0xf7c6_7301_db67_13f0, 0x3ce5_bdf7_5759_26c0),
        (100, 0x6ac1_e580_3216_6597, 0x3d19_a3a2_098a_7023),
    ];

    #[test]
    fn hashes_are_those_of_the_reference_implementation() {
        let bytes: Vec<u8> = (0..100).collect();
        for (length, plain, seeded) in REFERENCE {
            assert_eq!(xx_hash64(&bytes[..length], 0), plain, "{length} bytes");
            assert_eq!(xx_hash64(&bytes[..length], 1), seeded, "{length} bytes with a seed");
        }
    }

    #[test]
    fn well_known_texts_have_their_well_known_hashes() {
        assert_eq!(xx_hash64(b"a", 0), 0xd24e_c4f1_a98c_6e5b);
        assert_eq!(xx_hash64(b"abc", 0), 0x44bc_2cf5_ad77_0999);
        assert_eq!(xx_hash64(b"Nobody inspects the spammish repetition", 0), 0xfbce_a83c_8a37_8bf1);
    }
}
