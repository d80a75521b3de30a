<?php
/**
 * Whether bytes may be unpacked.
 *
 * @package PFN_Connector
 */

namespace PFN_Connector;

use WP_Error;

defined( 'ABSPATH' ) || exit;

/**
 * Judges the evidence bundle (pfn-evidence/2) that a node gives for a release, by the key that the site trusts.
 *
 * The bundle itself proves nothing: whoever made it could have put anything in. What counts is the publisher's own
 * signature over exactly this release, its SHA-256 and its size.
 */
class Trust {

	/**
	 * What is trusted.
	 *
	 * @var Settings
	 */
	private $settings;

	/**
	 * Keeps what it needs.
	 *
	 * @param Settings $settings What is trusted.
	 */
	public function __construct( Settings $settings ) {
		$this->settings = $settings;
	}

	/**
	 * What may be unpacked as this release.
	 *
	 * @param Release $release Which.
	 * @param array   $bundle  What the node says of it.
	 * @return array|WP_Error sha256 in hex, size, key, signed: whether the publisher vouches for it, or the node only.
	 */
	public function judge( Release $release, $bundle ) {
		$key = self::key_of( $bundle );
		if ( ! self::is_about( $release, $bundle ) || '' === $key ) {
			return new WP_Error( 'pfn_evidence', __( 'What the node gives as evidence is not about this release, or cannot be read.', 'pfn-connector' ) );
		}
		$trusted = $this->settings->trusted_key( $release->source );
		if ( '' !== $trusted && ! hash_equals( $trusted, $key ) ) {
			$this->settings->offer_key( $release->source, $key );
			return new WP_Error(
				'pfn_key_changed',
				sprintf(
					/* translators: 1: who publishes the plugin, 2: a fingerprint, 3: a fingerprint. */
					__( 'The node names another key for %1$s (%2$s) than the one that this site trusts (%3$s). If the publisher confirms that its key has changed, accept it under Settings > Plugin Federation.', 'pfn-connector' ),
					$release->source,
					Settings::fingerprint( $key ),
					Settings::fingerprint( $trusted )
				)
			);
		}
		if ( self::is_revoked( $release, $bundle, $key ) ) {
			return new WP_Error( 'pfn_revoked', __( 'The publisher revoked the key that vouches for this release.', 'pfn-connector' ) );
		}
		return array(
			'sha256' => $bundle['sha256'],
			'size'   => $bundle['size'],
			'key'    => $key,
			'signed' => self::is_signed( $release, $bundle, $key ),
		);
	}

	/**
	 * The key that a bundle claims for its source.
	 *
	 * @param array $bundle What a node says.
	 * @return string 32 bytes; empty if it names none.
	 */
	public static function key_of( $bundle ) {
		$key = isset( $bundle['public_key'] ) && is_string( $bundle['public_key'] ) ? base64_decode( $bundle['public_key'], true ) : false;
		return is_string( $key ) && 32 === strlen( $key ) ? $key : '';
	}

	/**
	 * Whether a bundle claims to be about this release, and has the members that are read here.
	 *
	 * @param Release $release Which.
	 * @param array   $bundle  What a node says.
	 * @return bool
	 */
	private static function is_about( Release $release, $bundle ) {
		$expected = array(
			'format'    => 'pfn-evidence/2',
			'source_id' => $release->source,
			'plugin_id' => $release->plugin,
			'version'   => $release->version,
		);
		foreach ( $expected as $name => $value ) {
			if ( ! isset( $bundle[ $name ] ) || $bundle[ $name ] !== $value ) {
				return false;
			}
		}
		return isset( $bundle['sha256'], $bundle['size'], $bundle['evidence'], $bundle['keys'], $bundle['oracle'] )
			&& is_string( $bundle['sha256'] ) && 1 === preg_match( '/^[0-9a-f]{64}$/D', $bundle['sha256'] )
			&& is_int( $bundle['size'] ) && $bundle['size'] > 0
			&& is_array( $bundle['evidence'] ) && is_array( $bundle['keys'] );
	}

	/**
	 * Whether the publisher's signature covers exactly these bytes as this release.
	 *
	 * A publisher that is said to sign any bytes for anybody, or of which that is not known, proves nothing by it.
	 *
	 * @param Release $release Which.
	 * @param array   $bundle  What a node says.
	 * @param string  $key     The publisher's identity key.
	 * @return bool
	 */
	private static function is_signed( Release $release, $bundle, $key ) {
		if ( ! in_array( $bundle['oracle'], array( 'none', 'utf8' ), true ) ) {
			return false;
		}
		foreach ( self::pieces( $bundle, 'release/2' ) as $raw ) {
			$envelope = Envelope::open( $raw, 'pfn/release/2', 9 );
			if ( null === $envelope ) {
				continue;
			}
			list( $origin, $author, $slug, $version, $sha256, $size ) = $envelope->fields;
			$about = array( self::source_of( $origin, $author ), $slug, $version, $sha256, $size );
			$asked = array( $release->source, $release->plugin, $release->version, hex2bin( $bundle['sha256'] ), $bundle['size'] );
			if ( $about === $asked && ( $envelope->author === $key || self::is_bound( $bundle, $key, $envelope->author, $origin ) ) ) {
				return true;
			}
		}
		return false;
	}

	/**
	 * Whether the identity key lets another key speak for it.
	 *
	 * @param array  $bundle   What a node says.
	 * @param string $identity The identity key.
	 * @param string $other    The other key.
	 * @param string $origin   Where.
	 * @return bool
	 */
	private static function is_bound( $bundle, $identity, $other, $origin ) {
		foreach ( self::pieces( $bundle, 'keybind/2' ) as $raw ) {
			if ( Envelope::open_keybind( $raw ) === array(
				'identity' => $identity,
				'release'  => $other,
				'origin'   => $origin,
			) ) {
				return true;
			}
		}
		return false;
	}

	/**
	 * Whether the publisher revoked its identity key or a key that it bound; the key itself may say so, or the identity.
	 *
	 * @param Release $release Which.
	 * @param array   $bundle  What a node says.
	 * @param string  $key     The identity key.
	 * @return bool
	 */
	private static function is_revoked( Release $release, $bundle, $key ) {
		foreach ( self::pieces( $bundle, '' ) as $raw ) {
			$envelope = Envelope::open( $raw, 'pfn/revoke/2', 5 );
			if ( null === $envelope || self::source_of( $envelope->fields[0], $envelope->fields[1] ) !== $release->source ) {
				continue;
			}
			$revoked = $envelope->fields[2];
			$speaks  = $envelope->author === $key || $envelope->author === $revoked;
			if ( $speaks && ( $revoked === $key || self::signs( $bundle, $revoked ) ) ) {
				return true;
			}
		}
		return false;
	}

	/**
	 * Whether a key signed a release of the bundle.
	 *
	 * @param array  $bundle What a node says.
	 * @param string $key    32 bytes.
	 * @return bool
	 */
	private static function signs( $bundle, $key ) {
		foreach ( self::pieces( $bundle, 'release/2' ) as $raw ) {
			$envelope = Envelope::open( $raw, 'pfn/release/2', 9 );
			if ( null !== $envelope && $envelope->author === $key ) {
				return true;
			}
		}
		return false;
	}

	/**
	 * The envelopes of a bundle that are of a form, and those about keys, whose form they say themselves.
	 *
	 * @param array  $bundle What a node says.
	 * @param string $form   release/2, keybind/2; empty: those about keys only.
	 * @return string[] Bytes.
	 */
	private static function pieces( $bundle, $form ) {
		$found = 'release/2' === $form ? array() : $bundle['keys'];
		foreach ( $bundle['evidence'] as $piece ) {
			if ( is_array( $piece ) && isset( $piece['form'], $piece['data'] ) && $piece['form'] === $form ) {
				$found[] = $piece['data'];
			}
		}
		$decoded = array_map(
			function ( $text ) {
				return is_string( $text ) ? base64_decode( $text, true ) : false;
			},
			$found
		);
		return array_filter( $decoded, 'is_string' );
	}

	/**
	 * The source that an author at a publisher's URL is.
	 *
	 * @param mixed $origin The URL.
	 * @param mixed $author The name there.
	 * @return string Empty if either is not well-formed.
	 */
	private static function source_of( $origin, $author ) {
		$readable = is_string( $origin ) && is_string( $author ) && preg_match( '~^https?://([^/?#@\s]+)~D', $origin, $found );
		return $readable ? $author . '@' . $found[1] : '';
	}
}
