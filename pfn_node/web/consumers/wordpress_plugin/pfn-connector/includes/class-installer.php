<?php
/**
 * Installing and updating.
 *
 * @package PFN_Connector
 */

namespace PFN_Connector;

use Plugin_Upgrader;
use WP_Error;

defined( 'ABSPATH' ) || exit;

/**
 * Gives WordPress' own upgrader the zips that it asks for, after they were checked, and remembers where they came from.
 */
class Installer {

	/**
	 * What is trusted and remembered.
	 *
	 * @var Settings
	 */
	private $settings;

	/**
	 * Who is asked.
	 *
	 * @var Nodes
	 */
	private $nodes;

	/**
	 * Who judges.
	 *
	 * @var Trust
	 */
	private $trust;

	/**
	 * What the upgrader is working on, and the judgement of it; null: nothing of the connector's.
	 *
	 * @var array|null
	 */
	private $current;

	/**
	 * Keeps what it needs.
	 *
	 * @param Settings $settings What is trusted and remembered.
	 * @param Nodes    $nodes    Who is asked.
	 * @param Trust    $trust    Who judges.
	 */
	public function __construct( Settings $settings, Nodes $nodes, Trust $trust ) {
		$this->settings = $settings;
		$this->nodes    = $nodes;
		$this->trust    = $trust;
	}

	/**
	 * Hooks it in.
	 */
	public function hook() {
		add_filter( 'upgrader_pre_download', array( $this, 'download' ), 10, 4 );
		add_filter( 'upgrader_source_selection', array( $this, 'check_folder' ), 10, 4 );
		add_filter( 'upgrader_post_install', array( $this, 'remember' ), 10, 3 );
		add_action( 'deleted_plugin', array( $this, 'forget' ), 10, 2 );
	}

	/**
	 * Fetches and checks a package of the connector's, and refuses any other for a plugin that came from a publisher.
	 *
	 * @param mixed        $reply    What another filter said.
	 * @param string       $package  What WordPress wants.
	 * @param \WP_Upgrader $upgrader Which shows what is done.
	 * @param array        $extra    What it is for.
	 * @return mixed A file, a WP_Error, or $reply.
	 */
	public function download( $reply, $package, $upgrader, $extra = array() ) {
		$this->current = null;
		$release       = Release::from_package( (string) $package );
		$folder        = isset( $extra['plugin'] ) ? dirname( $extra['plugin'] ) : '';
		$origin        = '' === $folder ? null : $this->settings->origin_of( $folder );
		if ( null === $release ) {
			return null === $origin ? $reply : $this->refuse( __( 'This plugin came from a publisher of the federation; it is updated from there only.', 'pfn-connector' ) );
		}
		$same = null === $origin || array( $release->source, $release->plugin ) === array( $origin['source'], $origin['plugin'] );
		if ( ! $same || ( '' !== $folder && $folder !== $release->plugin ) ) {
			return $this->refuse( __( 'This plugin came from another publisher.', 'pfn-connector' ) );
		}
		$upgrader->skin->feedback( esc_html__( 'Asking the federation for the release and the evidence for it&#8230;', 'pfn-connector' ) );
		$found = $this->fetch( $release, null !== $origin && $origin['signed'] );
		if ( is_wp_error( $found ) ) {
			return $found;
		}
		if ( '' === $this->settings->trusted_key( $release->source ) ) {
			$this->settings->trust_key( $release->source, $found['key'] );
		}
		$upgrader->skin->feedback( esc_html( self::sentence( $release, $found ) ) );
		$this->current = array(
			'release' => $release,
			'signed'  => $found['signed'],
		);
		return $found['file'];
	}

	/**
	 * The zip as the first node has it whose evidence holds.
	 *
	 * @param Release $release     Which.
	 * @param bool    $signed_once Whether an earlier version was signed.
	 * @return array|WP_Error The judgement, and the file.
	 */
	private function fetch( Release $release, $signed_once ) {
		$bundles = array();
		$errors  = array();
		foreach ( $this->nodes->all() as $node ) {
			$bundle = $this->nodes->ask_one( $node, '/federation/evidence', Nodes::named( $release ) );
			if ( is_wp_error( $bundle ) ) {
				$errors[] = $bundle->get_error_message();
			} else {
				$bundles[ $node ] = $bundle;
			}
		}
		$keys = array_unique( array_map( array( Evidence::class, 'key_of' ), $bundles ) );
		if ( count( $keys ) > 1 && '' === $this->settings->trusted_key( $release->source ) ) {
			$shown = implode( '; ', array_map( array( Settings::class, 'fingerprint' ), $keys ) );
			/* translators: 1: who publishes the plugin, 2: fingerprints. */
			return $this->refuse( sprintf( __( 'The nodes name different keys for %1$s: %2$s.', 'pfn-connector' ), $release->source, $shown ) );
		}
		foreach ( $bundles as $node => $bundle ) {
			$found = $this->judge( $release, $bundle, $signed_once );
			$file  = is_wp_error( $found ) ? $found : $this->nodes->fetch_zip( $release, $found['sha256'], $found['size'] );
			if ( ! is_wp_error( $file ) ) {
				return $found + array( 'file' => $file );
			}
			$errors[] = $node . ': ' . $file->get_error_message();
		}
		return $this->refuse( $errors ? implode( ' ', $errors ) : __( 'No node is set: see Settings > Plugin Federation.', 'pfn-connector' ) );
	}

	/**
	 * The judgement of evidence, and whether it is enough for this site.
	 *
	 * @param Release $release     Which.
	 * @param array   $bundle      What the node says.
	 * @param bool    $signed_once Whether an earlier version was signed.
	 * @return array|WP_Error
	 */
	private function judge( Release $release, $bundle, $signed_once ) {
		$found = $this->trust->judge( $release, $bundle );
		if ( is_wp_error( $found ) || $found['signed'] ) {
			return $found;
		}
		if ( $signed_once ) {
			return new WP_Error( 'pfn_unsigned', __( 'No signature of the publisher covers these bytes, and one covered an earlier version.', 'pfn-connector' ) );
		}
		if ( ! $this->settings->allows_unsigned() ) {
			return new WP_Error( 'pfn_unsigned', __( 'No signature of the publisher covers these bytes: only the node vouches for them. You can allow that under Settings > Plugin Federation.', 'pfn-connector' ) );
		}
		return $found;
	}

	/**
	 * Lets only the folder in that the release is about, and only what runs here: for updates WordPress does not look.
	 *
	 * @param string|WP_Error $source   The unpacked folder.
	 * @param string          $remote   Where it was unpacked.
	 * @param \WP_Upgrader    $upgrader Who does it.
	 * @param array           $extra    What it is for.
	 * @return string|WP_Error
	 */
	public function check_folder( $source, $remote, $upgrader, $extra = array() ) {
		if ( null === $this->current || is_wp_error( $source ) ) {
			return $source;
		}
		if ( basename( $source ) !== $this->current['release']->plugin ) {
			return $this->refuse( __( 'The zip does not hold the folder of this plugin and no other.', 'pfn-connector' ) );
		}
		return $upgrader instanceof Plugin_Upgrader ? $upgrader->check_package( $source ) : $source;
	}

	/**
	 * Remembers where a plugin came from that is in place now.
	 *
	 * @param mixed $response What another filter said.
	 * @param array $extra    What it was for.
	 * @param array $result   Where it is.
	 * @return mixed $response.
	 */
	public function remember( $response, $extra, $result ) {
		$into_plugins = isset( $result['local_destination'], $result['destination_name'] ) && WP_PLUGIN_DIR === $result['local_destination'];
		if ( is_wp_error( $response ) || ! $into_plugins ) {
			return $response;
		}
		$origin = null === $this->current ? null : array(
			'source' => $this->current['release']->source,
			'plugin' => $this->current['release']->plugin,
			'signed' => $this->current['signed'],
		);
		if ( null !== $origin || null !== $this->settings->origin_of( $result['destination_name'] ) ) {
			$this->settings->remember( $result['destination_name'], $origin );
		}
		$this->current = null;
		return $response;
	}

	/**
	 * Forgets a plugin that was deleted.
	 *
	 * @param string $file    Its file.
	 * @param bool   $deleted Whether it is gone.
	 */
	public function forget( $file, $deleted ) {
		if ( $deleted ) {
			$this->settings->remember( dirname( $file ), null );
		}
	}

	/**
	 * What was checked, for whoever watches.
	 *
	 * @param Release $release Which.
	 * @param array   $found   The judgement.
	 * @return string
	 */
	private static function sentence( Release $release, $found ) {
		if ( $found['signed'] ) {
			/* translators: 1: who publishes the plugin, 2: a fingerprint. */
			return sprintf( __( 'The SHA-256 and the size are those that %1$s signed, with the key %2$s.', 'pfn-connector' ), $release->source, Settings::fingerprint( $found['key'] ) );
		}
		return __( 'The SHA-256 and the size are those that the node names. Only the node vouches for them: the publisher signed no such statement.', 'pfn-connector' );
	}

	/**
	 * A refusal.
	 *
	 * @param string $why In a sentence.
	 * @return WP_Error
	 */
	private function refuse( $why ) {
		return new WP_Error( 'pfn_refused', esc_html( $why ) );
	}
}
