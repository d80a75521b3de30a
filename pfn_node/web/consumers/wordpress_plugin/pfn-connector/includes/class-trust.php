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
 * Judges the evidence that a node gives for a release, by the key that the site trusts.
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
	 * @param mixed   $bundle  What the node says of it.
	 * @return array|WP_Error sha256 in hex, size, key, signed: whether the publisher vouches for it, or the node only.
	 */
	public function judge( Release $release, $bundle ) {
		$evidence = Evidence::read( $release, $bundle );
		if ( null === $evidence ) {
			return new WP_Error( 'pfn_evidence', __( 'What the node gives as evidence is not about this release, or cannot be read.', 'pfn-connector' ) );
		}
		$trusted = $this->settings->trusted_key( $release->source );
		if ( '' !== $trusted && ! hash_equals( $trusted, $evidence->key ) ) {
			return $this->refuse_key( $release->source, $trusted, $evidence->key );
		}
		if ( '' !== $evidence->successor() ) {
			return $this->refuse_key( $release->source, $evidence->key, $evidence->successor() );
		}
		if ( $evidence->is_revoked() ) {
			return new WP_Error( 'pfn_revoked', __( 'The publisher revoked the key that vouches for this release.', 'pfn-connector' ) );
		}
		if ( $evidence->is_yanked() ) {
			return new WP_Error( 'pfn_yanked', __( 'The publisher yanked this release: it should not be installed.', 'pfn-connector' ) );
		}
		return array(
			'sha256' => $evidence->sha256,
			'size'   => $evidence->size,
			'key'    => $evidence->key,
			'signed' => $evidence->is_signed(),
		);
	}

	/**
	 * The refusal of another key than the trusted one, which an administrator may accept.
	 *
	 * @param string $source  Whose key.
	 * @param string $trusted The key so far.
	 * @param string $other   The other key.
	 * @return WP_Error
	 */
	private function refuse_key( $source, $trusted, $other ) {
		$this->settings->offer_key( $source, $other );
		return new WP_Error(
			'pfn_key_changed',
			sprintf(
				/* translators: 1: who publishes the plugin, 2: a fingerprint, 3: a fingerprint. */
				__( 'The node names another key for %1$s (%2$s) than the one that this site trusts (%3$s). If the publisher confirms that its key has changed, accept it under Settings > Plugin Federation.', 'pfn-connector' ),
				$source,
				Settings::fingerprint( $other ),
				Settings::fingerprint( $trusted )
			)
		);
	}
}
