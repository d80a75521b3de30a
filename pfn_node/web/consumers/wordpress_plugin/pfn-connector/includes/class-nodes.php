<?php
/**
 * The way to the nodes.
 *
 * @package PFN_Connector
 */

namespace PFN_Connector;

use WP_Error;

defined( 'ABSPATH' ) || exit;

/**
 * Asks nodes. Nothing that they answer is believed here.
 */
class Nodes {

	const ANSWER_BYTES_MAX = 4194304; // An evidence bundle has at most 2 MiB.
	const ANSWER_SECONDS   = 10;
	const ZIP_SECONDS      = 300;

	/**
	 * Which nodes there are.
	 *
	 * @var Settings
	 */
	private $settings;

	/**
	 * Keeps what it needs.
	 *
	 * @param Settings $settings Which nodes there are.
	 */
	public function __construct( Settings $settings ) {
		$this->settings = $settings;
	}

	/**
	 * The nodes, in their order.
	 *
	 * @return string[] URLs.
	 */
	public function all() {
		return $this->settings->nodes();
	}

	/**
	 * The answer of the first node that has one.
	 *
	 * @param string $path  The call.
	 * @param array  $query Its fields.
	 * @return array|WP_Error What the JSON says.
	 */
	public function ask( $path, $query = array() ) {
		$error = new WP_Error( 'pfn_no_node', __( 'No node is set: see Settings > Plugin Federation.', 'pfn-connector' ) );
		foreach ( $this->all() as $node ) {
			$answer = $this->ask_one( $node, $path, $query );
			if ( ! is_wp_error( $answer ) ) {
				return $answer;
			}
			$error = $answer;
		}
		return $error;
	}

	/**
	 * The answer of this node.
	 *
	 * @param string $node  Its URL.
	 * @param string $path  The call.
	 * @param array  $query Its fields.
	 * @return array|WP_Error What the JSON says.
	 */
	public function ask_one( $node, $path, $query = array() ) {
		$response = wp_remote_get(
			$this->url( $node, $path, $query ),
			array(
				'timeout'             => self::ANSWER_SECONDS,
				'redirection'         => 0,
				'limit_response_size' => self::ANSWER_BYTES_MAX,
			)
		);
		if ( is_wp_error( $response ) ) {
			return new WP_Error( 'pfn_node', $node . ': ' . $response->get_error_message() );
		}
		$answer = json_decode( wp_remote_retrieve_body( $response ), true );
		$status = (int) wp_remote_retrieve_response_code( $response );
		if ( 200 !== $status || ! is_array( $answer ) ) {
			$said = is_array( $answer ) && isset( $answer['error'] ) && is_string( $answer['error'] ) ? $answer['error'] : '';
			/* translators: %d: HTTP status. */
			$said = '' === $said ? sprintf( __( 'HTTP status %d, and no answer that can be read.', 'pfn-connector' ), $status ) : $said;
			return new WP_Error( 'pfn_node', $node . ': ' . $said );
		}
		return $answer;
	}

	/**
	 * Fetches a zip from the first node that has exactly these bytes.
	 *
	 * @param Release $release Which.
	 * @param string  $sha256  Its digest in hex.
	 * @param int     $size    Its bytes.
	 * @return string|WP_Error A temporary file.
	 */
	public function fetch_zip( Release $release, $sha256, $size ) {
		$errors = array();
		foreach ( $this->all() as $node ) {
			$file  = wp_tempnam( $release->plugin . '.zip' );
			$error = $this->fetch_zip_from( $node, $release, $sha256, $size, $file );
			if ( null === $error ) {
				return $file;
			}
			wp_delete_file( $file );
			$errors[] = $node . ': ' . $error;
		}
		return new WP_Error( 'pfn_refused', implode( ' ', $errors ) );
	}

	/**
	 * Fetches a zip from this node and checks its bytes.
	 *
	 * @param string  $node    Its URL.
	 * @param Release $release Which.
	 * @param string  $sha256  Its digest in hex.
	 * @param int     $size    Its bytes.
	 * @param string  $file    Where it goes.
	 * @return string|null What is wrong; null: nothing.
	 */
	private function fetch_zip_from( $node, Release $release, $sha256, $size, $file ) {
		$response = wp_remote_get(
			$this->url( $node, '/federation/download', self::named( $release ) ),
			array(
				'timeout'             => self::ZIP_SECONDS,
				'redirection'         => 0,
				'stream'              => true,
				'filename'            => $file,
				'limit_response_size' => $size + 1,
			)
		);
		if ( is_wp_error( $response ) ) {
			return $response->get_error_message();
		}
		$status = (int) wp_remote_retrieve_response_code( $response );
		if ( 200 !== $status ) {
			/* translators: %d: HTTP status. */
			return sprintf( __( 'It does not give the zip (HTTP status %d).', 'pfn-connector' ), $status );
		}
		clearstatcache( true, $file );
		if ( filesize( $file ) !== $size || ! hash_equals( $sha256, (string) hash_file( 'sha256', $file ) ) ) {
			return __( 'The zip that it gives is not the one of this release: its SHA-256 or size differs. It was not unpacked.', 'pfn-connector' );
		}
		return null;
	}

	/**
	 * A release as the fields of a query.
	 *
	 * @param Release $release Which.
	 * @return string[]
	 */
	public static function named( Release $release ) {
		return array(
			'sourceId' => $release->source,
			'plugin'   => $release->plugin,
			'version'  => $release->version,
		);
	}

	/**
	 * Where a call is.
	 *
	 * @param string $node  The node's URL.
	 * @param string $path  The call.
	 * @param array  $query Its fields.
	 * @return string
	 */
	private function url( $node, $path, $query ) {
		return $node . $path . ( $query ? '?' . http_build_query( $query, '', '&', PHP_QUERY_RFC3986 ) : '' );
	}
}
