<?php
/**
 * The federation in Plugins > Add New.
 *
 * @package PFN_Connector
 */

namespace PFN_Connector;

use WP_Error;

defined( 'ABSPATH' ) || exit;

/**
 * Adds a tab with what the nodes list, and answers WordPress' questions about these plugins.
 */
class Screens {

	const TAB       = 'pfn_connector';
	const PAGES_MAX = 20; // The node's lists are read page after page; whoever wants more searches better.
	const LEAST     = 'A1';

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
	 * Makes what is shown.
	 *
	 * @var Cards
	 */
	private $cards;

	/**
	 * Keeps what it needs.
	 *
	 * @param Settings $settings What is trusted and remembered.
	 * @param Nodes    $nodes    Who is asked.
	 */
	public function __construct( Settings $settings, Nodes $nodes ) {
		$this->settings = $settings;
		$this->nodes    = $nodes;
		$this->cards    = new Cards( $settings );
	}

	/**
	 * Hooks it in.
	 */
	public function hook() {
		add_filter( 'install_plugins_tabs', array( $this, 'add_tab' ) );
		add_filter( 'install_plugins_table_api_args_' . self::TAB, array( $this, 'arguments' ) );
		add_action( 'install_plugins_' . self::TAB, array( $this, 'show_tab' ) );
		add_filter( 'plugins_api', array( $this, 'answer' ), 10, 3 );
		add_filter( 'plugin_install_action_links', array( $this->cards, 'links' ), 10, 2 );
	}

	/**
	 * Adds the tab.
	 *
	 * @param string[] $tabs The tabs.
	 * @return string[]
	 */
	public function add_tab( $tabs ) {
		$tabs[ self::TAB ] = __( 'Federation', 'pfn-connector' );
		return $tabs;
	}

	/**
	 * What WordPress asks for in this tab.
	 *
	 * @return array
	 */
	public function arguments() {
		return array(
			'pfn_connector' => true,
			'page'          => max( 1, absint( isset( $_GET['paged'] ) ? $_GET['paged'] : 1 ) ), // phpcs:ignore WordPress.Security.NonceVerification
			'per_page'      => 36,
			'search'        => self::words(),
		);
	}

	/**
	 * The words that are searched for in the tab.
	 *
	 * @return string
	 */
	private static function words() {
		$given = isset( $_GET['pfn_search'] ) ? wp_unslash( $_GET['pfn_search'] ) : ''; // phpcs:ignore WordPress.Security
		return is_string( $given ) ? sanitize_text_field( $given ) : '';
	}

	/**
	 * The tab: a search form, and WordPress' own table.
	 */
	public function show_tab() {
		?>
		<style>.plugin-install-tab-<?php echo esc_attr( self::TAB ); ?> :is(.column-rating, .column-downloaded, .column-compatibility, .search-plugins) { display: none; }</style>
		<p><?php esc_html_e( 'Plugins of independent publishers, as your nodes list them. Everything is checked on this site before it is unpacked.', 'pfn-connector' ); ?></p>
		<form method="get" action="<?php echo esc_url( self_admin_url( 'plugin-install.php' ) ); ?>">
			<input type="hidden" name="tab" value="<?php echo esc_attr( self::TAB ); ?>">
			<label for="pfn-search"><?php esc_html_e( 'Search the federation', 'pfn-connector' ); ?></label>
			<input type="search" id="pfn-search" name="pfn_search" value="<?php echo esc_attr( self::words() ); ?>">
			<?php submit_button( __( 'Search', 'pfn-connector' ), '', '', false ); ?>
		</form>
		<?php
		display_plugins_table();
	}

	/**
	 * Answers for plugins of the federation what wordpress.org answers for its own.
	 *
	 * @param mixed  $result    What another filter said.
	 * @param string $action    query_plugins or plugin_information.
	 * @param object $arguments What is asked.
	 * @return mixed An object, a WP_Error, or $result.
	 */
	public function answer( $result, $action, $arguments ) {
		if ( 'query_plugins' === $action && ! empty( $arguments->pfn_connector ) ) {
			return $this->listing( $arguments->search, $arguments->page, $arguments->per_page );
		}
		$release = 'plugin_information' === $action && isset( $arguments->slug ) ? Release::from_slug( (string) $arguments->slug ) : null;
		return null === $release ? $result : $this->information( $release );
	}

	/**
	 * One page of what the nodes list.
	 *
	 * @param string $words    What is searched for; empty: everything.
	 * @param int    $page     Which page, from 1.
	 * @param int    $per_page How many on a page.
	 * @return object|WP_Error
	 */
	private function listing( $words, $page, $per_page ) {
		$query = array(
			'type'          => 'plugin',
			'min_assurance' => self::LEAST,
			'limit'         => $per_page,
		) + ( '' === $words ? array() : array( 'q' => $words ) );
		for ( $at = 1; $at <= min( $page, self::PAGES_MAX ); $at++ ) {
			$answer = $this->nodes->ask( '/federation/plugins', $query );
			if ( is_wp_error( $answer ) ) {
				return new WP_Error( 'pfn_node', esc_html( $answer->get_error_message() ) );
			}
			if ( empty( $answer['next'] ) ) {
				break;
			}
			$query['cursor'] = $answer['next'];
		}
		$rows  = isset( $answer['plugins'] ) && is_array( $answer['plugins'] ) && $at >= min( $page, self::PAGES_MAX ) ? $answer['plugins'] : array();
		$total = isset( $answer['total'] ) ? min( (int) $answer['total'], self::PAGES_MAX * $per_page ) : 0;
		return (object) array(
			'info'    => array(
				'page'    => $page,
				'pages'   => (int) ceil( $total / $per_page ),
				'results' => $total,
			),
			'plugins' => array_map( array( $this->cards, 'card' ), array_values( array_filter( $rows, array( Cards::class, 'is_row' ) ) ) ),
		);
	}

	/**
	 * The details of one plugin.
	 *
	 * @param Release $release Which.
	 * @return object|WP_Error
	 */
	private function information( Release $release ) {
		$row = $this->nodes->ask( '/federation/plugins/' . rawurlencode( $release->source ) . '/' . rawurlencode( $release->plugin ) );
		if ( is_wp_error( $row ) ) {
			return new WP_Error( 'plugins_api_failed', esc_html( $row->get_error_message() ) );
		}
		if ( ! Cards::is_row( $row ) || $row['source_id'] !== $release->source || $row['plugin_id'] !== $release->plugin ) {
			return new WP_Error( 'plugins_api_failed', __( 'The node answers about another plugin.', 'pfn-connector' ) );
		}
		$card   = $this->cards->card( $row );
		unset( $card['active_installs'] ); // Nobody counts them.
		if ( $this->cards->is_installed( $release ) && '' === $this->cards->update_of( $release ) ) {
			$card['slug'] = $release->plugin; // WordPress looks for the folder by it, and finds it installed.
		}
		$card['sections']       = array(
			'description' => '<p>' . $card['short_description'] . '</p>',
			'federation'  => $this->cards->evidence( $row ),
		);
		$card['language_packs'] = array();
		return (object) $card;
	}

}
