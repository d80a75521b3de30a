<?php
/**
 * What the site remembers.
 *
 * @package PFN_Connector
 */

namespace PFN_Connector;

defined( 'ABSPATH' ) || exit;

/**
 * Which nodes are asked, which keys are trusted, and where the plugins came from that were installed through the connector.
 */
class Settings {

	const GENERAL   = 'pfn_connector';
	const KEYS      = 'pfn_connector_keys';
	const INSTALLED = 'pfn_connector_installed';

	const NODES_MAX = 10;

	/**
	 * The URLs of the nodes, without a slash at the end, in the order in which they are asked.
	 *
	 * @return string[]
	 */
	public function nodes() {
		return $this->general()['nodes'];
	}

	/**
	 * Whether releases may be installed for which only the node vouches.
	 *
	 * @return bool
	 */
	public function allows_unsigned() {
		return $this->general()['allow_unsigned'];
	}

	/**
	 * Keeps what the settings page asks for.
	 *
	 * @param string $nodes          One URL on each line; what is none is left out.
	 * @param bool   $allow_unsigned Whether the node's word is enough.
	 */
	public function save( $nodes, $allow_unsigned ) {
		$urls = array();
		foreach ( preg_split( '/\s+/', $nodes, -1, PREG_SPLIT_NO_EMPTY ) as $given ) {
			$url   = untrailingslashit( esc_url_raw( $given, array( 'http', 'https' ) ) );
			$parts = wp_parse_url( $url );
			if ( ! empty( $parts['host'] ) && ! array_intersect( array( 'user', 'pass', 'query', 'fragment' ), array_keys( $parts ) ) ) {
				$urls[] = $url;
			}
		}
		update_site_option(
			self::GENERAL,
			array(
				'nodes'          => array_slice( array_values( array_unique( $urls ) ), 0, self::NODES_MAX ),
				'allow_unsigned' => $allow_unsigned,
			)
		);
	}

	/**
	 * All sources whose key is known: source => array( key, since, offered ), keys in base64.
	 *
	 * @return array[]
	 */
	public function keys() {
		return $this->read( self::KEYS );
	}

	/**
	 * The key of a source that the site trusts.
	 *
	 * @param string $source The source.
	 * @return string 32 bytes; empty if none is trusted yet.
	 */
	public function trusted_key( $source ) {
		$keys = $this->keys();
		return isset( $keys[ $source ] ) ? (string) base64_decode( $keys[ $source ]['key'], true ) : '';
	}

	/**
	 * Trusts a key from now on.
	 *
	 * @param string $source The source.
	 * @param string $key    32 bytes.
	 */
	public function trust_key( $source, $key ) {
		$keys            = $this->keys();
		$keys[ $source ] = array(
			'key'     => base64_encode( $key ),
			'since'   => time(),
			'offered' => '',
		);
		update_site_option( self::KEYS, $keys );
	}

	/**
	 * Remembers a key that a node names in the place of the trusted one, for an administrator to decide; empty: none.
	 *
	 * @param string $source The source.
	 * @param string $key    32 bytes, or empty.
	 */
	public function offer_key( $source, $key ) {
		$keys = $this->keys();
		if ( isset( $keys[ $source ] ) && base64_encode( $key ) !== $keys[ $source ]['offered'] ) {
			$keys[ $source ]['offered'] = base64_encode( $key );
			update_site_option( self::KEYS, $keys );
		}
	}

	/**
	 * Forgets the key of a source: the next installation decides.
	 *
	 * @param string $source The source.
	 */
	public function forget_key( $source ) {
		$keys = $this->keys();
		unset( $keys[ $source ] );
		update_site_option( self::KEYS, $keys );
	}

	/**
	 * Where the plugin in a folder came from, if the connector installed it.
	 *
	 * @param string $folder Name of a folder in the plugins' folder.
	 * @return array|null source, plugin, signed.
	 */
	public function origin_of( $folder ) {
		$installed = $this->read( self::INSTALLED );
		return isset( $installed[ $folder ] ) ? $installed[ $folder ] : null;
	}

	/**
	 * Remembers where the plugin in a folder came from.
	 *
	 * @param string     $folder Name of the folder.
	 * @param array|null $origin source, plugin, signed; null: not from here.
	 */
	public function remember( $folder, $origin ) {
		$installed = $this->read( self::INSTALLED );
		if ( null === $origin ) {
			unset( $installed[ $folder ] );
		} else {
			$installed[ $folder ] = $origin;
		}
		update_site_option( self::INSTALLED, $installed );
	}

	/**
	 * A key as people compare it: the SHA-256 of its bytes, in groups of four digits.
	 *
	 * @param string $key 32 bytes.
	 * @return string
	 */
	public static function fingerprint( $key ) {
		return implode( ' ', str_split( hash( 'sha256', $key ), 4 ) );
	}

	/**
	 * The general settings, complete whatever is stored.
	 *
	 * @return array
	 */
	private function general() {
		$kept = $this->read( self::GENERAL );
		return array(
			'nodes'          => isset( $kept['nodes'] ) ? (array) $kept['nodes'] : array(),
			'allow_unsigned' => ! empty( $kept['allow_unsigned'] ),
		);
	}

	/**
	 * A stored option as an array.
	 *
	 * @param string $option Its name.
	 * @return array
	 */
	private function read( $option ) {
		return (array) get_site_option( $option, array() );
	}
}
